//! A page of metrics in the making.

use std::{fmt, sync::atomic::AtomicU64};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::names::Metric;
use crate::model::Finding;

/// The labels of one sample.
pub(super) type Labels = Vec<(&'static str, String)>;

/// A page in the making.
#[derive(Default)]
pub(super) struct Page(Registry);

/// A truth as a number.
pub(super) const fn flag(truth: bool) -> f64 {
    if truth { 1.0 } else { 0.0 }
}

impl Page {
    /// A value without labels.
    pub(super) fn gauge(&mut self, metric: Metric, value: f64) {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value);
        self.0.register(metric.name, metric.help, gauge);
    }

    /// A value, if it is known.
    pub(super) fn known(&mut self, metric: Metric, value: Option<f64>) {
        if let Some(value) = value {
            self.gauge(metric, value);
        }
    }

    /// Values with labels.
    pub(super) fn labelled(&mut self, metric: Metric, samples: impl IntoIterator<Item = (Labels, f64)>) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in samples {
            family.get_or_create(&labels).set(value);
        }
        self.0.register(metric.name, metric.help, family);
    }

    /// Counts with labels.
    pub(super) fn counters(&mut self, metric: Metric, samples: impl IntoIterator<Item = (Labels, u64)>) {
        let family = Family::<Labels, Counter>::default();
        for (labels, value) in samples {
            family.get_or_create(&labels).inc_by(value);
        }
        self.0.register(metric.name, metric.help, family);
    }

    /// The page as text.
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.0)?;
        Ok(text)
    }
}

/// A finding as labels: its name, and what it is about. They are the fields of its JSON, so a new finding needs no
/// line here.
pub(super) fn labels(finding: &Finding) -> Labels {
    let json = serde_json::to_value(finding).unwrap_or_default();
    let field = |name: &'static str| {
        let value = json.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        (name, value.to_owned())
    };
    vec![field("finding"), field("node"), field("member"), field("endpoint")]
}
