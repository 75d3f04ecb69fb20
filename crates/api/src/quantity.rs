//! `resource.Quantity`: exact amounts with SI suffixes, such as `500m`, `1.5Gi` and `12e6`.
//!
//! An amount is kept as a whole number of billionths, the finest that Kubernetes knows; what is finer is rounded away
//! from zero, as upstream does, so that who asks for something does not get nothing.

use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// How an amount is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12Mi`: powers of 1024.
    BinarySi,
    /// `12M`, `500m`: powers of 1000.
    DecimalSi,
    /// `12e6`.
    DecimalExponent,
}

/// An amount. Equality and order are of the amounts, however they are written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// It is not a number and a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// The suffix is unknown.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Binary amounts above 2^63-1 units are capped.
const MAX_BINARY: i128 = i64::MAX as i128 * NANO;

const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self::whole(0);

    /// An amount of whole units, written in powers of 1000.
    pub const fn whole(units: i64) -> Self {
        Self {
            nanos: units as i128 * NANO,
            format: Format::DecimalSi,
        }
    }

    /// An amount of thousandths.
    pub const fn milli(thousandths: i64) -> Self {
        Self {
            nanos: thousandths as i128 * 1_000_000,
            format: Format::DecimalSi,
        }
    }

    /// An amount of bytes, written in powers of 1024.
    pub const fn bytes(bytes: i64) -> Self {
        Self {
            nanos: bytes as i128 * NANO,
            format: Format::BinarySi,
        }
    }

    /// The amount in a decoded object; one that does not parse counts as nothing (decoding refuses it before).
    pub fn of(text: &Text) -> Self {
        text.0.parse().unwrap_or(Self::ZERO)
    }

    /// Whole units, rounded away from zero (`Quantity.Value`).
    pub fn value(self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded away from zero (`Quantity.MilliValue`).
    pub fn milli_value(self) -> i64 {
        self.scaled(1_000_000)
    }

    /// The amount in billionths.
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    /// How it is written.
    pub fn format(self) -> Format {
        self.format
    }

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// The next thousandth away from zero.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        let rest = self.nanos % 1_000_000;
        let nanos = (self.nanos - rest).saturating_add(rest.signum() * 1_000_000);
        Self { nanos, ..self }
    }

    fn scaled(self, unit: i128) -> i64 {
        let rounded = self.nanos / unit + (self.nanos % unit).signum();
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }
}

/// Rewrites an amount as the API server stores it: in canonical form (`0.5` becomes `500m`, `1024Mi` becomes `1Gi`).
/// A text that is no amount is left alone.
pub fn canonicalize(text: &mut Text) {
    if keeps_its_text(&text.0) {
        return;
    }
    if let Ok(quantity) = text.0.parse::<Quantity>() {
        text.0 = quantity.to_string();
    }
}

/// Upstream keeps the text of some amounts that is canonical but for a decimal point (`1.500`).
fn keeps_its_text(text: &str) -> bool {
    let Some((whole, rest)) = text.split_once('.') else {
        return false;
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, suffix) = rest.split_at(end);
    let whole = whole.trim_start_matches(['+', '-']).trim_start_matches('0');
    let scale = match exponent(suffix) {
        Ok((Scale::Decimal(exponent), _)) => i64::from(exponent) - fraction.len() as i64,
        _ => return false,
    };
    !whole.is_empty()
        && whole.bytes().all(|byte| byte.is_ascii_digit())
        && whole.len() + fraction.len() <= 18
        && (-9..=0).contains(&scale)
        && scale % 3 == 0
        && !format!("{whole}{fraction}").ends_with("000")
}

enum Scale {
    Binary(u32),
    Decimal(i32),
}

fn exponent(suffix: &str) -> Result<(Scale, Format), ParseQuantityError> {
    if let Some((_, exponent)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Binary(*exponent), Format::BinarySi));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Scale::Decimal(*exponent), Format::DecimalSi));
    }
    let exponent = suffix
        .strip_prefix(['e', 'E'])
        .ok_or(ParseQuantityError::Suffix)?
        .parse::<i32>()
        .map_err(|_| ParseQuantityError::Suffix)?;
    Ok((Scale::Decimal(exponent), Format::DecimalExponent))
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        if text.is_empty() {
            return Err(ParseQuantityError::Format);
        }
        let negative = text.starts_with('-');
        let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent_digits = letters.strip_prefix(['+', '-']).unwrap_or(letters);
        if !exponent_digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ParseQuantityError::Format);
        }
        let (scale, mut format) = exponent(suffix)?;
        let mut nanos = match scale {
            Scale::Decimal(exponent) => decimal(whole, fraction, exponent),
            Scale::Binary(exponent) => binary(whole, fraction, exponent).min(MAX_BINARY),
        };
        if format == Format::BinarySi && nanos > 0 && nanos < NANO {
            format = Format::DecimalSi;
        }
        if negative {
            nanos = -nanos;
        }
        Ok(Self { nanos, format })
    }
}

/// Billionths of `whole.fraction × 10^exponent`, rounded up.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    // The digits as one number, which stands at this power of ten.
    let mut power = i64::from(exponent) + 9;
    let mut number: i128 = 0;
    let mut lost = false;
    let mut full = false;
    for (index, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = i128::from(byte - b'0');
        let is_fraction = index >= whole.len();
        let next = number
            .checked_mul(10)
            .and_then(|number| number.checked_add(digit));
        match next {
            Some(next) if !full => {
                number = next;
                power -= i64::from(is_fraction);
            }
            _ => {
                full = true;
                lost |= digit != 0;
                power += i64::from(!is_fraction);
            }
        }
    }
    if number == 0 {
        return 0;
    }
    while power > 0 {
        match number.checked_mul(10) {
            Some(next) => number = next,
            None => return i128::MAX,
        }
        power -= 1;
    }
    while power < 0 && number > 0 {
        lost |= number % 10 != 0;
        number /= 10;
        power += 1;
    }
    number.saturating_add(i128::from(lost))
}

/// Billionths of `whole.fraction × 2^exponent`, rounded up; exact to ten digits of the fraction.
fn binary(whole: &str, fraction: &str, exponent: u32) -> i128 {
    let whole = match whole.trim_start_matches('0') {
        "" => 0,
        digits => match digits.parse::<i128>() {
            Ok(whole) => whole,
            Err(_) => return i128::MAX,
        },
    };
    let factor = 1i128 << exponent;
    let Some(whole) = whole
        .checked_mul(factor)
        .and_then(|units| units.checked_mul(NANO))
    else {
        return i128::MAX;
    };
    let (mut number, mut unit, mut lost) = (0i128, 1i128, false);
    for (index, byte) in fraction.bytes().enumerate() {
        if index < 10 {
            number = number * 10 + i128::from(byte - b'0');
            unit *= 10;
        } else {
            lost |= byte != b'0';
        }
    }
    let scaled = number * factor * NANO;
    lost |= scaled % unit != 0;
    whole
        .saturating_add(scaled / unit)
        .saturating_add(i128::from(lost))
}

impl fmt::Display for Quantity {
    /// The canonical form: the greatest suffix with which no fraction is needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let units = self.nanos / NANO;
        if self.format == Format::BinarySi && self.is_whole() && !(-1023..=1023).contains(&units) {
            let (mut number, mut suffix) = (units, "");
            for (name, _) in BINARY {
                if number % 1024 != 0 {
                    break;
                }
                number /= 1024;
                suffix = name;
            }
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return match exponent {
                0 => write!(f, "{number}"),
                exponent => write!(f, "{number}e{exponent}"),
            };
        }
        let suffix = DECIMAL
            .iter()
            .find(|(_, power)| *power == exponent)
            .map_or("", |(name, _)| name);
        write!(f, "{number}{suffix}")
    }
}

impl From<Quantity> for Text {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum, written as the first amount is unless that is nothing.
    fn add(self, other: Self) -> Self {
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format: if self.is_zero() { other.format } else { self.format },
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nanos: self.nanos.saturating_neg(),
            format: self.format,
        }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_and_written_canonically() {
        // text, billionths, canonical text
        let cases: &[(&str, i128, &str)] = &[
            ("0", 0, "0"),
            ("0Mi", 0, "0"),
            ("1", NANO, "1"),
            ("+1", NANO, "1"),
            ("-1", -NANO, "-1"),
            ("0.5", NANO / 2, "500m"),
            (".5", NANO / 2, "500m"),
            ("1.", NANO, "1"),
            ("1.5", 3 * NANO / 2, "1500m"),
            ("100m", NANO / 10, "100m"),
            ("1000m", NANO, "1"),
            ("1000", 1000 * NANO, "1k"),
            ("1024", 1024 * NANO, "1024"),
            ("1Ki", 1024 * NANO, "1Ki"),
            ("1.5Gi", (3 << 29) * NANO, "1536Mi"),
            ("1024Mi", (1 << 30) * NANO, "1Gi"),
            ("1000Ki", 1_024_000 * NANO, "1000Ki"),
            ("0.5Ki", 512 * NANO, "512"),
            ("0.0001Ki", 102_400_000, "102400u"),
            ("1500Mi", 1500 * (1 << 20) * NANO, "1500Mi"),
            ("12e6", 12_000_000 * NANO, "12e6"),
            ("12E6", 12_000_000 * NANO, "12e6"),
            ("1E", 1_000_000_000_000_000_000 * NANO, "1E"),
            ("1e3", 1000 * NANO, "1e3"),
            ("1e-3", 1_000_000, "1e-3"),
            ("0.1n", 1, "1n"),
            ("1.0000000001", NANO + 1, "1000000001n"),
            ("-0.1n", -1, "-1n"),
            ("100Ei", MAX_BINARY, "9223372036854775807"),
            ("123456789012345678901234567890123456789012", i128::MAX, ""),
        ];
        for (text, nanos, canonical) in cases {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.nanos(), *nanos, "{text}");
            if !canonical.is_empty() {
                assert_eq!(quantity.to_string(), *canonical, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_as_upstream_words_it() {
        for text in ["", "1x", "abc", "1.2.3", "1 ", "1Gi ", "1e3x", "1,5", "0x10", "é"] {
            assert_eq!(
                text.parse::<Quantity>(),
                Err(ParseQuantityError::Format),
                "{text}"
            );
        }
        for text in ["--1", "1KK", "1Kii", "1K", "1e", "1mm", "1Mi5", "1ee3"] {
            assert_eq!(
                text.parse::<Quantity>(),
                Err(ParseQuantityError::Suffix),
                "{text}"
            );
        }
    }

    #[test]
    fn stored_texts_are_canonical_except_where_upstream_keeps_them() {
        for (given, stored) in [
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1.500", "1.500"),
            ("x", "x"),
            ("0.500", "500m"),
        ] {
            let mut text = Text(given.into());
            canonicalize(&mut text);
            assert_eq!(text.0, stored);
        }
    }

    #[test]
    fn values_round_away_from_zero() {
        let quantity: Quantity = "1100u".parse().unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (1, 2));
        let quantity: Quantity = "-1100u".parse().unwrap();
        assert_eq!((quantity.value(), quantity.milli_value()), (-1, -2));
        assert_eq!(("100E".parse::<Quantity>().unwrap()).value(), i64::MAX);
    }

    fn quantity() -> impl Strategy<Value = Quantity> {
        let format = prop_oneof![
            Just(Format::BinarySi),
            Just(Format::DecimalSi),
            Just(Format::DecimalExponent)
        ];
        let nanos = prop_oneof![
            any::<i64>().prop_map(i128::from),
            any::<i32>().prop_map(|units| i128::from(units) * NANO),
            any::<i32>().prop_map(|units| i128::from(units) * 1024 * NANO),
            -MAX_BINARY..=MAX_BINARY,
        ];
        (nanos, format).prop_map(|(nanos, format)| Quantity { nanos, format })
    }

    #[test]
    fn the_greatest_amounts_can_be_rounded() {
        for text in [
            "1e999999999",
            "-1e999999999",
            "9999999999999999999999999999999999999999",
        ] {
            let amount: Quantity = text.parse().unwrap();
            let rounded = amount.rounded_to_milli();
            assert!(
                rounded.nanos().saturating_abs() >= amount.nanos().saturating_abs() - 1,
                "{text}"
            );
            assert_eq!(rounded.value(), amount.value(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn writing_then_reading_gives_the_same_amount(quantity in quantity()) {
            let text = quantity.to_string();
            let back: Quantity = text.parse().unwrap();
            prop_assert_eq!(back, quantity, "{}", text);
            prop_assert_eq!(back.to_string(), text, "the canonical form is canonical");
        }

        #[test]
        fn sums_and_order_obey_arithmetic(a in quantity(), b in quantity(), c in quantity()) {
            prop_assert_eq!(a + b, b + a);
            prop_assert_eq!((a + b) + c, a + (b + c));
            prop_assert_eq!(a + b - b, a);
            prop_assert_eq!(a < b, (a - b).is_negative());
            prop_assert_eq!([a, b, c].into_iter().sum::<Quantity>(), a + b + c);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn what_looks_like_an_amount_is_read(text in "[+-]?[0-9]{1,30}(\\.[0-9]{0,30})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[+-]?[0-9]{1,2})?") {
            let read: Quantity = text.parse().unwrap();
            let again: Quantity = read.to_string().parse().unwrap();
            if read.nanos().abs() < MAX_BINARY {
                prop_assert_eq!(read, again);
            }
        }
    }
}
