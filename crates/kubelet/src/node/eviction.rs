//! The hard eviction thresholds: at how little memory, disk or process ids the node is under pressure, in upstream's
//! syntax (`--eviction-hard`, `nodefs.available<1%,memory.available<100Mi`).

use std::fmt;
use std::str::FromStr;

use skiff_api::quantity::{ParseQuantityError, Quantity};

/// What of the machine is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    /// Memory that can be had without swapping.
    Memory,
    /// The same for pods alone.
    AllocatableMemory,
    /// Bytes, or inodes, of the file system that holds pods.
    NodeFs(Disk),
    /// Of that which holds images.
    ImageFs(Disk),
    /// Of that which holds containers' own writes; it is one of the two others, and follows its thresholds.
    ContainerFs,
    /// Process ids.
    Pid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Bytes,
    Inodes,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Least {
    Share(f32),
    Amount(i64),
}

/// A watched amount: what there is, and what of it is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) left: i64,
    pub(crate) whole: i64,
}

/// A file system's levels. Nothing is told of one that counts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskLevels {
    pub(crate) bytes: Option<Level>,
    pub(crate) inodes: Option<Level>,
}

/// All that thresholds look at, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) memory: Level,
    pub(crate) node: DiskLevels,
    pub(crate) images: DiskLevels,
    pub(crate) pids: Option<Level>,
}

/// Which of the node's pressure conditions are true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

/// Hard eviction thresholds. What is not named has none, as upstream: naming one gives up the defaults of all.
#[derive(Clone, Debug, PartialEq)]
pub struct EvictionThresholds {
    text: String,
    list: Vec<(Signal, Least)>,
}

/// Why a text names no thresholds, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvictionThresholdError {
    /// A part without `<`.
    #[error("malformed pair, expect string<string")]
    Malformed,
    /// A signal that there is not.
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    /// A percentage that is not a number.
    #[error("strconv.ParseFloat: parsing {0:?}: invalid syntax")]
    Number(String),
    /// Below 0 %.
    #[error("eviction percentage threshold {0} must be >= 0%: {1}")]
    Negative(String, String),
    /// Above 100 %.
    #[error("eviction percentage threshold {0} must be <= 100%: {1}")]
    TooMuch(String, String),
    /// An amount that is not one.
    #[error(transparent)]
    Quantity(#[from] ParseQuantityError),
    /// An amount of nothing or less.
    #[error("eviction threshold {0} must be positive: {1}")]
    NotPositive(String, String),
}

impl EvictionThresholds {
    /// Upstream's defaults.
    pub const DEFAULT: &'static str = "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%";

    fn least(&self, signal: Signal, whole: i64) -> i64 {
        self.list
            .iter()
            .find(|(named, _)| *named == signal)
            .map_or(0, |(_, least)| least.of(whole))
    }

    /// How much of so many bytes of memory is kept from pods.
    pub(crate) fn memory_kept(&self, whole: i64) -> i64 {
        self.least(Signal::Memory, whole)
    }

    /// How many of so many bytes of disk are kept from pods.
    pub(crate) fn disk_kept(&self, whole: i64) -> i64 {
        self.least(Signal::NodeFs(Disk::Bytes), whole)
    }

    /// The pressure at these levels.
    pub(crate) fn pressure(&self, levels: &Levels) -> Pressure {
        let mut pressure = Pressure::default();
        for (signal, least) in &self.list {
            let (level, condition) = match signal {
                Signal::Memory => (Some(levels.memory), &mut pressure.memory),
                Signal::NodeFs(disk) => (levels.node.of(*disk), &mut pressure.disk),
                Signal::ImageFs(disk) => (levels.images.of(*disk), &mut pressure.disk),
                Signal::Pid => (levels.pids, &mut pressure.pids),
                Signal::AllocatableMemory | Signal::ContainerFs => continue,
            };
            *condition |= level.is_some_and(|level| level.left < least.of(level.whole));
        }
        pressure
    }
}

impl DiskLevels {
    fn of(&self, what: Disk) -> Option<Level> {
        match what {
            Disk::Bytes => self.bytes,
            Disk::Inodes => self.inodes,
        }
    }
}

impl Least {
    fn of(self, whole: i64) -> i64 {
        match self {
            Self::Amount(amount) => amount,
            // As upstream, which multiplies floating point numbers and cuts off what follows the point.
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
            Self::Share(share) => (whole as f64 * f64::from(share)) as i64,
        }
    }

    /// `None` for a share that can never be undercut, or always is: upstream takes both for no threshold.
    fn parse(name: &str, text: &str) -> Result<Option<Self>, EvictionThresholdError> {
        let named = || (name.to_string(), text.to_string());
        let Some(number) = text.strip_suffix('%') else {
            let quantity: Quantity = text.parse()?;
            if quantity.is_zero() || quantity.is_negative() {
                return Err(EvictionThresholdError::NotPositive(
                    name.into(),
                    quantity.to_string(),
                ));
            }
            return Ok(Some(Self::Amount(quantity.value())));
        };
        if matches!(number, "0" | "100") {
            return Ok(None);
        }
        let number = number.trim_end_matches('%');
        let percent: f32 = number
            .parse()
            .map_err(|_| EvictionThresholdError::Number(number.into()))?;
        let ((name, text), share) = (named(), percent / 100.0);
        match share {
            share if share < 0.0 => Err(EvictionThresholdError::Negative(name, text)),
            share if share > 1.0 => Err(EvictionThresholdError::TooMuch(name, text)),
            share => Ok(Some(Self::Share(share))),
        }
    }
}

impl Default for EvictionThresholds {
    fn default() -> Self {
        Self {
            text: Self::DEFAULT.into(),
            list: vec![
                (Signal::Memory, Least::Amount(100 << 20)),
                (Signal::NodeFs(Disk::Bytes), Least::Share(0.10)),
                (Signal::NodeFs(Disk::Inodes), Least::Share(0.05)),
                (Signal::ImageFs(Disk::Bytes), Least::Share(0.15)),
                (Signal::ImageFs(Disk::Inodes), Least::Share(0.05)),
            ],
        }
    }
}

impl FromStr for EvictionThresholds {
    type Err = EvictionThresholdError;

    fn from_str(text: &str) -> Result<Self, EvictionThresholdError> {
        let mut list: Vec<(Signal, Least)> = Vec::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, least) = pair.split_once('<').ok_or(EvictionThresholdError::Malformed)?;
            let (name, least) = (name.trim(), least.trim());
            let signal = match name {
                "memory.available" => Signal::Memory,
                "allocatableMemory.available" => Signal::AllocatableMemory,
                "nodefs.available" => Signal::NodeFs(Disk::Bytes),
                "nodefs.inodesFree" => Signal::NodeFs(Disk::Inodes),
                "imagefs.available" => Signal::ImageFs(Disk::Bytes),
                "imagefs.inodesFree" => Signal::ImageFs(Disk::Inodes),
                "containerfs.available" | "containerfs.inodesFree" => Signal::ContainerFs,
                "pid.available" => Signal::Pid,
                other => return Err(EvictionThresholdError::Signal(other.into())),
            };
            // The last one counts: upstream keeps them in a map.
            list.retain(|(earlier, _)| *earlier != signal);
            list.extend(Least::parse(name, least)?.map(|least| (signal, least)));
        }
        Ok(Self {
            text: text.to_string(),
            list,
        })
    }
}

impl fmt::Display for EvictionThresholds {
    /// The text that it was made from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(left: i64, whole: i64) -> Option<Level> {
        Some(Level { left, whole })
    }

    fn pressure(thresholds: &str, change: impl FnOnce(&mut Levels)) -> [bool; 3] {
        let disk = DiskLevels {
            bytes: level(50, 100),
            inodes: level(50, 100),
        };
        let mut levels = Levels {
            memory: Level {
                left: 1 << 30,
                whole: 1 << 32,
            },
            node: disk,
            images: disk,
            pids: level(50, 100),
        };
        change(&mut levels);
        let found = thresholds
            .parse::<EvictionThresholds>()
            .unwrap()
            .pressure(&levels);
        [found.memory, found.disk, found.pids]
    }

    #[test]
    fn the_default_is_the_text_of_the_default() {
        let parsed: EvictionThresholds = EvictionThresholds::DEFAULT.parse().unwrap();
        assert_eq!(parsed, EvictionThresholds::default());
    }

    #[test]
    fn what_is_below_its_threshold_is_under_pressure() {
        type Change = fn(&mut Levels);
        let default = EvictionThresholds::DEFAULT;
        let cases: [(&str, Change, [bool; 3]); 14] = [
            (default, |_| {}, [false; 3]),
            (default, |l| l.memory.left = (100 << 20) - 1, [true, false, false]),
            (default, |l| l.memory.left = 100 << 20, [false; 3]),
            (default, |l| l.node.bytes = level(9, 100), [false, true, false]),
            (default, |l| l.node.bytes = level(10, 100), [false; 3]),
            (default, |l| l.node.inodes = level(4, 100), [false, true, false]),
            (default, |l| l.images.bytes = level(14, 100), [false, true, false]),
            (default, |l| l.images.inodes = level(4, 100), [false, true, false]),
            (default, |l| l.pids = level(0, 100), [false; 3]),
            // A file system without a fixed number of inodes.
            (default, |l| l.node.inodes = None, [false; 3]),
            (
                "nodefs.available<1%",
                |l| l.node.bytes = level(2, 100),
                [false; 3],
            ),
            ("nodefs.available<1%", |l| l.memory.left = 0, [false; 3]),
            (
                "pid.available<10",
                |l| l.pids = level(9, 100),
                [false, false, true],
            ),
            (
                "nodefs.available<0%",
                |l| l.node.bytes = level(0, 100),
                [false; 3],
            ),
        ];
        for (index, (thresholds, change, expected)) in cases.into_iter().enumerate() {
            assert_eq!(
                pressure(thresholds, change),
                expected,
                "case {index}: {thresholds}"
            );
        }
    }

    #[test]
    fn a_text_that_names_no_thresholds_is_refused_in_upstreams_words() {
        let cases = [
            ("nodefs.available", "malformed pair, expect string<string"),
            ("disk.available<1%", "unsupported eviction signal disk.available"),
            (
                "nodefs.available<x%",
                "strconv.ParseFloat: parsing \"x\": invalid syntax",
            ),
            (
                "nodefs.available<-1%",
                "eviction percentage threshold nodefs.available must be >= 0%: -1%",
            ),
            (
                "nodefs.available<101%",
                "eviction percentage threshold nodefs.available must be <= 100%: 101%",
            ),
            (
                "memory.available<0",
                "eviction threshold memory.available must be positive: 0",
            ),
            (
                "memory.available<-5Mi",
                "eviction threshold memory.available must be positive: -5Mi",
            ),
            (
                "memory.available<lots",
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        ];
        for (text, message) in cases {
            let error = text.parse::<EvictionThresholds>().unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
    }

    #[test]
    fn what_a_threshold_keeps_is_kept_from_pods() {
        let thresholds: EvictionThresholds = "memory.available<1Gi,nodefs.available<25%".parse().unwrap();
        assert_eq!(thresholds.memory_kept(8 << 30), 1 << 30);
        assert_eq!(thresholds.disk_kept(1000), 250);
        let none: EvictionThresholds = "".parse().unwrap();
        assert_eq!((none.memory_kept(8 << 30), none.disk_kept(1000)), (0, 0));
    }
}
