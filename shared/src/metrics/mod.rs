//! Metrics: each declared once, with its name, help and labels, in a table.
//!
//! A table is made by [`metrics!`](macro@crate::metrics); every process installs the tables it uses,
//! and `docs/METRICS.md` is rendered from them. Labels are enums made by
//! [`label!`](crate::label), never ids, so the number of series is known when the program is
//! built and all of them exist, at zero, from the start. Gauges are set when they are read:
//! [`Metrics::on_scrape`].

mod family;
mod process;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use parking_lot::{Mutex, RwLock};

pub use family::{Counter, Family, Gauge, Histogram, Instrument, Label, Labels, Metric};
pub use process::TABLE;

use crate::lifecycle::Lifecycle;

/// Some metrics of one part.
pub type Table = &'static [&'static (dyn Metric + Sync)];

/// Buckets for what takes from a tenth of a millisecond to ten seconds.
pub const LATENCY: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];
/// Buckets for numbers of things.
pub const COUNTS: &[f64] = &[
    0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0,
];

/// Declares a table of metrics: each is a static of its own. The doc comment is the help text.
///
/// ```
/// use shared::metrics::{Counter, Histogram, LATENCY};
///
/// shared::label! {
///     /// How it ended.
///     pub enum Outcome: "outcome" { Good = "good", Bad = "bad" }
/// }
/// shared::metrics! {
///     pub static TABLE;
///     /// Cakes baked.
///     pub static CAKES: Counter<Outcome> = "tidegate_cakes_total";
///     /// Time to bake a cake.
///     pub static BAKING: Histogram = "tidegate_baking_seconds", LATENCY;
/// }
/// CAKES.of(Outcome::Good).increment(1);
/// BAKING.record(0.5);
/// assert_eq!(TABLE.len(), 2);
/// ```
#[macro_export]
macro_rules! metrics {
    (
        $(#[doc = $table_doc:literal])*
        $table_vis:vis static $table:ident;
        $( $(#[doc = $doc:literal])+ $vis:vis static $name:ident : $type:ty = $text:literal $(, $buckets:expr)? ; )*
    ) => {
        $(
            $(#[doc = $doc])+
            $vis static $name: $type = {
                let buckets: &'static [f64] = &[];
                $( let buckets: &'static [f64] = { let _ = buckets; $buckets }; )?
                <$type>::new($text, concat!($($doc),+), buckets)
            };
        )*

        $(#[doc = $table_doc])*
        #[doc = "The metrics declared here."]
        $table_vis static $table: $crate::metrics::Table = &[ $( &$name ),* ];
    };
}

/// Declares a label: its name and the values it may have.
#[macro_export]
macro_rules! label {
    (
        $(#[$attribute:meta])*
        $vis:vis enum $name:ident : $label:literal {
            $( $(#[$variant_attribute:meta])* $variant:ident = $text:literal ),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name {
            $( $(#[$variant_attribute])* #[allow(missing_docs, dead_code, reason = "the values are the label's, used or not")] $variant, )+
        }

        impl $crate::metrics::Label for $name {
            const NAME: &'static str = $label;
            const VALUES: &'static [&'static str] = &[ $( $text ),+ ];

            fn index(self) -> usize {
                self as usize
            }
        }

        impl $crate::metrics::Labels for $name {
            fn names() -> Vec<&'static str> {
                vec![<Self as $crate::metrics::Label>::NAME]
            }

            fn combinations() -> Vec<Vec<&'static str>> {
                <Self as $crate::metrics::Label>::VALUES.iter().map(|value| vec![*value]).collect()
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// The process's metrics, readable.
pub struct Metrics {
    handle: PrometheusHandle,
    on_scrape: RwLock<Vec<Box<dyn Fn() + Send + Sync>>>,
}

/// The recorder is one per process; so are its metrics.
static INSTALLED: Mutex<Option<Arc<Metrics>>> = Mutex::new(None);

/// Makes the tables' metrics count. Call it before anything counts, once per process; a further call
/// gives the first one's metrics.
pub fn install(tables: &[Table]) -> Arc<Metrics> {
    let mut installed = INSTALLED.lock();
    if let Some(metrics) = &*installed {
        return metrics.clone();
    }
    let mut builder = PrometheusBuilder::new();
    for metric in tables.iter().copied().flatten() {
        if !metric.buckets().is_empty() {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name().to_owned()), metric.buckets())
                .expect("the buckets are not empty");
        }
    }
    let recorder = builder.build_recorder();
    let metrics = Arc::new(Metrics {
        handle: recorder.handle(),
        on_scrape: RwLock::default(),
    });
    // Fails only if another recorder is there already, and then that one counts.
    let _ = metrics::set_global_recorder(recorder);
    for metric in tables.iter().copied().flatten() {
        metric.register();
    }
    process::start(&metrics);
    *installed = Some(metrics.clone());
    metrics
}

impl Metrics {
    /// Calls `set` before every scrape: there gauges are read from what owns the thing. It must
    /// be quick and must not keep its owner alive.
    pub fn on_scrape(&self, set: impl Fn() + Send + Sync + 'static) {
        self.on_scrape.write().push(Box::new(set));
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        for set in self.on_scrape.read().iter() {
            set();
        }
        self.handle.render()
    }

    /// Keeps histograms small between scrapes: samples are folded into buckets every second.
    pub fn spawn_upkeep(self: &Arc<Self>, lifecycle: &Lifecycle) {
        let metrics = self.clone();
        lifecycle.spawn_background(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            loop {
                tick.tick().await;
                metrics.handle.run_upkeep();
            }
        });
    }
}

/// The tables as Markdown.
pub fn markdown(tables: &[Table]) -> String {
    let mut page =
        String::from("| metric | type | labels | what it counts |\n| --- | --- | --- | --- |\n");
    for metric in tables.iter().copied().flatten() {
        let labels: Vec<_> = metric
            .labels()
            .into_iter()
            .map(|(name, values)| match values.len() {
                1 => format!("`{name}`"),
                _ => format!("`{name}`: {}", values.join(", ")),
            })
            .collect();
        let labels = if labels.is_empty() {
            "–".to_owned()
        } else {
            labels.join("; ")
        };
        let help = metric.help().trim();
        let _ = writeln!(
            page,
            "| `{}` | {} | {labels} | {help} |",
            metric.name(),
            metric.kind()
        );
    }
    page
}

/// For tests: what the names of a table break of the rules, in sentences.
pub fn naming_problems(tables: &[Table]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for metric in tables.iter().copied().flatten() {
        let name = metric.name();
        if !seen.insert(name) {
            problems.push(format!("{name} is declared twice"));
        }
        if !name.starts_with("tidegate_") && !name.starts_with("process_") {
            problems.push(format!("{name} does not begin with tidegate_"));
        }
        if (metric.kind() == "counter") != name.ends_with("_total") {
            problems.push(format!("{name}: counters, and only they, end in _total"));
        }
        if (metric.kind() == "histogram") == metric.buckets().is_empty() {
            problems.push(format!("{name}: histograms, and only they, have buckets"));
        }
        let series: usize = metric
            .labels()
            .iter()
            .map(|(_, values)| values.len())
            .product();
        if series > 1000 {
            problems.push(format!("{name} has {series} series"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::label! {
        enum Colour: "colour" { Red = "red", Blue = "blue" }
    }
    crate::label! {
        enum Shape: "shape" { Round = "round", Square = "square" }
    }

    crate::metrics! {
        static TEST_TABLE;
        /// Things seen.
        static THINGS: Counter<(Colour, Shape)> = "tidegate_test_things_total";
        /// Things there are.
        static LEVEL: Gauge<Colour> = "tidegate_test_level";
        /// Time taken.
        static TIME: Histogram = "tidegate_test_seconds", &[0.1, 1.0];
    }

    #[test]
    fn every_series_exists_from_the_start_and_counts() {
        let metrics = install(&[TABLE, TEST_TABLE]);
        metrics.on_scrape(|| LEVEL.of(Colour::Blue).set(7.0));
        THINGS.of((Colour::Blue, Shape::Round)).increment(3);
        TIME.record(0.5);
        let text = metrics.render();
        for line in [
            "# HELP tidegate_test_things_total Things seen.",
            "# TYPE tidegate_test_things_total counter",
            "tidegate_test_things_total{colour=\"red\",shape=\"square\"} 0",
            "tidegate_test_things_total{colour=\"blue\",shape=\"round\"} 3",
            "tidegate_test_level{colour=\"blue\"} 7",
            "tidegate_test_seconds_bucket{le=\"0.1\"} 0",
            "tidegate_test_seconds_bucket{le=\"1\"} 1",
            "tidegate_test_seconds_count 1",
            "tidegate_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        #[cfg(target_os = "linux")]
        assert!(
            !text.contains("process_resident_memory_bytes 0\n"),
            "{text}"
        );
    }

    #[test]
    fn names_follow_the_rules() {
        assert_eq!(naming_problems(&[TABLE, TEST_TABLE]), [""; 0]);
        crate::metrics! {
            static WRONG;
            /// No prefix, no total.
            static A: Counter = "things";
            /// A counter's name, and no buckets.
            static B: Histogram = "tidegate_b_total";
        }
        assert_eq!(naming_problems(&[WRONG]).len(), 4);
    }
}
