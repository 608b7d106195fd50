//! The public port: health paths, reads, control, events, metrics. The controller behind it is a fake.

mod console;
mod control;
mod events;
mod health;
mod read;
