//! The judge of every fault: clients that know nothing of Locum commit numbered rows, through the endpoints and directly
//! at each node, and keep every outcome; what the surviving primary holds in the end is compared with it.
#![allow(dead_code, reason = "the tests and the soak each use a part")]

pub(crate) mod clients;
pub(crate) mod history;
pub(crate) mod judge;
pub(crate) mod outage;
pub(crate) mod session;
pub(crate) mod survivor;

pub(crate) use clients::{Clients, Load};
pub(crate) use history::{Attempt, History, Outcome, Read, Via};
pub(crate) use judge::{Verdict, judge};
pub(crate) use survivor::Survivor;
