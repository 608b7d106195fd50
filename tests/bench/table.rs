//! Prints what was measured: every run, then minimum, median and maximum, then the ratio.

use crate::{
    Side,
    load::{Load, Sample},
};

pub(crate) fn print(load: Load, samples: &[(Side, Sample)]) {
    let rates = |side| pick(samples, side, |sample| sample.rate);
    let p99s = |side| pick(samples, side, |sample| sample.p99_us as f64 / 1000.0);
    let unit = if load == Load::Connect8 { "connections/s" } else { "transactions/s" };
    for side in Side::ALL {
        line(side.name(), unit, 0, &rates(side));
        line(side.name(), "p99, ms", 3, &p99s(side));
    }
    println!(
        "  locum / haproxy: throughput {:.3}, p99 {:.3}   locum / direct: throughput {:.3}   (of the medians)",
        median(&rates(Side::Locum)) / median(&rates(Side::Haproxy)),
        median(&p99s(Side::Locum)) / median(&p99s(Side::Haproxy)),
        median(&rates(Side::Locum)) / median(&rates(Side::Direct)),
    );
    let paired = |of: &dyn Fn(Side) -> Vec<f64>| {
        let mut each: Vec<f64> =
            of(Side::Locum).iter().zip(of(Side::Haproxy)).map(|(locum, haproxy)| locum / haproxy).collect();
        each.sort_by(f64::total_cmp);
        let (least, most) = interval(&each);
        format!("{:.3} ({least:.3} to {most:.3})", median(&each))
    };
    println!(
        "  locum / haproxy: throughput {}, p99 {}   (median of the rounds' ratios, and where it is with 95 %)",
        paired(&rates),
        paired(&p99s),
    );
}

/// Where the median of what these are samples of is, nineteen times of twenty: the order statistics of a binomial distribution, by
/// its normal approximation. All of them where there are few.
fn interval(sorted: &[f64]) -> (f64, f64) {
    let count = sorted.len() as f64;
    let outside = (count / 2.0 - 0.98 * count.sqrt()).floor().max(1.0) as usize - 1;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    (at(outside), at(sorted.len().saturating_sub(1 + outside)))
}

fn pick(samples: &[(Side, Sample)], side: Side, of: impl Fn(&Sample) -> f64) -> Vec<f64> {
    samples.iter().filter(|(its, _)| *its == side).map(|(_, sample)| of(sample)).collect()
}

fn line(side: &str, unit: &str, digits: usize, runs: &[f64]) {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let all: Vec<String> = runs.iter().map(|run| format!("{run:.digits$}")).collect();
    let (least, most) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
    println!(
        "  {side:8} {unit:14} {}   min {least:.digits$}  median {:.digits$}  max {most:.digits$}",
        all.join(" "),
        median(runs),
    );
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
