//! A metric with all its series, found by index: counting costs no lookup.

use std::{ops::Deref, sync::OnceLock};

use metrics::{Key, KeyName, Level, Metadata, Recorder, SharedString};

/// One label: an enum made by [`label!`](crate::label).
pub trait Label: Copy + 'static {
    /// Its name.
    const NAME: &'static str;
    /// Its values, in the order of [`Label::index`].
    const VALUES: &'static [&'static str];
    /// Which value this is.
    fn index(self) -> usize;
}

/// The labels of a metric: none, one, or a pair.
pub trait Labels: Copy + 'static {
    /// The names of the labels.
    fn names() -> Vec<&'static str>;
    /// Every combination of values, in the order of [`Labels::index`].
    fn combinations() -> Vec<Vec<&'static str>>;
    /// Which combination this is.
    fn index(self) -> usize;
}

impl Labels for () {
    fn names() -> Vec<&'static str> {
        Vec::new()
    }

    fn combinations() -> Vec<Vec<&'static str>> {
        vec![Vec::new()]
    }

    fn index(self) -> usize {
        0
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    fn names() -> Vec<&'static str> {
        vec![A::NAME, B::NAME]
    }

    fn combinations() -> Vec<Vec<&'static str>> {
        A::VALUES
            .iter()
            .flat_map(|a| B::VALUES.iter().map(|b| vec![*a, *b]))
            .collect()
    }

    fn index(self) -> usize {
        self.0.index() * B::VALUES.len() + self.1.index()
    }
}

/// What one series is: a counter, a gauge or a histogram.
pub trait Instrument: Sized + Send + Sync + 'static {
    /// Its name in Prometheus' text format.
    const KIND: &'static str;
    /// Tells the recorder what the metric is for.
    fn describe(recorder: &dyn Recorder, name: KeyName, help: SharedString);
    /// Makes the series.
    fn register(recorder: &dyn Recorder, key: &Key) -> Self;
}

/// Where a series comes from; the recorder ignores it.
const METADATA: Metadata<'static> = Metadata::new("tidegate", Level::INFO, None);

macro_rules! instrument {
    ($type:ty, $kind:literal, $describe:ident, $register:ident) => {
        impl Instrument for $type {
            const KIND: &'static str = $kind;

            fn describe(recorder: &dyn Recorder, name: KeyName, help: SharedString) {
                recorder.$describe(name, None, help);
            }

            fn register(recorder: &dyn Recorder, key: &Key) -> Self {
                recorder.$register(key, &METADATA)
            }
        }
    };
}

instrument!(
    metrics::Counter,
    "counter",
    describe_counter,
    register_counter
);
instrument!(metrics::Gauge, "gauge", describe_gauge, register_gauge);
instrument!(
    metrics::Histogram,
    "histogram",
    describe_histogram,
    register_histogram
);

/// What only grows.
pub type Counter<L = ()> = Family<metrics::Counter, L>;
/// What goes up and down; set by [`super::Metrics::on_scrape`].
pub type Gauge<L = ()> = Family<metrics::Gauge, L>;
/// How something is spread.
pub type Histogram<L = ()> = Family<metrics::Histogram, L>;

/// A metric with all its series.
pub struct Family<I, L: Labels> {
    name: &'static str,
    help: &'static str,
    buckets: &'static [f64],
    series: OnceLock<Box<[I]>>,
    labels: std::marker::PhantomData<fn() -> L>,
}

impl<I: Instrument, L: Labels> Family<I, L> {
    /// Called by [`metrics!`](macro@crate::metrics).
    pub const fn new(name: &'static str, help: &'static str, buckets: &'static [f64]) -> Self {
        Self {
            name,
            help,
            buckets,
            series: OnceLock::new(),
            labels: std::marker::PhantomData,
        }
    }

    /// The series of these labels.
    pub fn of(&self, labels: L) -> &I {
        &self.all()[labels.index()]
    }

    fn all(&self) -> &[I] {
        self.series.get_or_init(|| {
            metrics::with_recorder(|recorder| {
                let name = KeyName::from_const_str(self.name);
                I::describe(
                    recorder,
                    name.clone(),
                    SharedString::const_str(self.help.trim_ascii()),
                );
                let names = L::names();
                let series = L::combinations().into_iter().map(|values| {
                    let labels: Vec<_> = names
                        .iter()
                        .zip(values)
                        .map(|(name, value)| metrics::Label::from_static_parts(name, value))
                        .collect();
                    I::register(recorder, &Key::from_parts(name.clone(), labels))
                });
                series.collect()
            })
        })
    }
}

/// A metric without labels is its one series.
impl<I: Instrument> Deref for Family<I, ()> {
    type Target = I;

    fn deref(&self) -> &I {
        self.of(())
    }
}

/// A metric as it was declared.
pub trait Metric {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What it tells, for people.
    fn help(&self) -> &'static str;
    /// `counter`, `gauge` or `histogram`.
    fn kind(&self) -> &'static str;
    /// Its labels and their values.
    fn labels(&self) -> Vec<(&'static str, Vec<&'static str>)>;
    /// Upper bounds, of a histogram.
    fn buckets(&self) -> &'static [f64];
    /// Makes all its series, so that they exist before they count.
    fn register(&self);
}

impl<I: Instrument, L: Labels> Metric for Family<I, L> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn help(&self) -> &'static str {
        self.help
    }

    fn kind(&self) -> &'static str {
        I::KIND
    }

    fn labels(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let combinations = L::combinations();
        let values_of = |n: usize| {
            let mut values: Vec<&'static str> = Vec::new();
            for combination in &combinations {
                if !values.contains(&combination[n]) {
                    values.push(combination[n]);
                }
            }
            values
        };
        L::names()
            .into_iter()
            .enumerate()
            .map(|(n, name)| (name, values_of(n)))
            .collect()
    }

    fn buckets(&self) -> &'static [f64] {
        self.buckets
    }

    fn register(&self) {
        self.all();
    }
}
