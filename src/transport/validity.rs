//! From when to when a certificate is valid, read out of its DER. Nothing else of it is looked at here: whether it is
//! one is the TLS library's to say.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

/// Both ends, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub begins: i64,
    /// Not after this.
    pub ends: i64,
}

/// How a certificate stands at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not valid yet.
    Early,
    /// Valid, for so many whole days more.
    Valid { days: i64 },
    /// Not valid any more.
    Expired,
}

impl Validity {
    /// How it stands at a time, in seconds since 1970.
    #[must_use]
    pub fn at(&self, now: i64) -> Standing {
        match now {
            now if now > self.ends => Standing::Expired,
            now if now < self.begins => Standing::Early,
            now => Standing::Valid { days: (self.ends - now) / 86_400 },
        }
    }

    /// The fields of RFC 5280, 4.1, up to the one that is wanted. `None` when this is no certificate.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let (signed, _) = element(certificate, SEQUENCE)?;
        let (fields, _) = element(signed, SEQUENCE)?;
        let fields = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
        let (_, fields) = element(fields, INTEGER)?;
        let (_, fields) = element(fields, SEQUENCE)?; // the signature's algorithm
        let (_, fields) = element(fields, SEQUENCE)?; // the issuer
        let (times, _) = element(fields, SEQUENCE)?;
        let (begins, times) = time(times)?;
        let (ends, _) = time(times)?;
        Some(Self { begins, ends })
    }
}

/// The content of the first element, which has this tag, and what follows it.
fn element(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = input else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match length {
        0x00..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn time(input: &[u8]) -> Option<(i64, &[u8])> {
    let (text, century, rest) = match element(input, UTC_TIME) {
        Some((text, rest)) => (text, None, rest),
        None => element(input, GENERALIZED_TIME).map(|(text, rest)| (text, Some(()), rest))?,
    };
    let digits: Vec<i16> = text.strip_suffix(b"Z")?.chunks(2).map(two_digits).collect::<Option<_>>()?;
    let (year, rest_of) = match (century, digits.as_slice()) {
        // RFC 5280, 4.1.2.5.1: years of two digits from 50 on are those of the century before.
        (None, [year, rest_of @ ..]) => (if *year < 50 { 2000 + year } else { 1900 + year }, rest_of),
        (Some(()), [century, year, rest_of @ ..]) => (century * 100 + year, rest_of),
        _ => return None,
    };
    let [month, day, hour, minute, second] = *rest_of else { return None };
    let small = |number: i16| i8::try_from(number).ok();
    let when = DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, small(second)?, 0).ok()?;
    Some((when.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second(), rest))
}

fn two_digits(pair: &[u8]) -> Option<i16> {
    let [ten, one] = pair else { return None };
    (ten.is_ascii_digit() && one.is_ascii_digit()).then(|| i16::from(ten - b'0') * 10 + i16::from(one - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(begins: (i32, u8, u8), ends: (i32, u8, u8)) -> Vec<u8> {
        let mut parameters = CertificateParams::new(vec!["chat.test".to_owned()]).expect("a name");
        parameters.not_before = date_time_ymd(begins.0, begins.1, begins.2);
        parameters.not_after = date_time_ymd(ends.0, ends.1, ends.2);
        let key = KeyPair::generate().expect("a key");
        parameters.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn both_ways_to_write_a_time_are_read() {
        let validity = Validity::of(&certificate((1999, 12, 31), (2026, 11, 23)));
        assert_eq!(validity, Some(Validity { begins: 946_598_400, ends: 1_795_392_000 }));
        let validity = Validity::of(&certificate((2049, 12, 31), (2050, 1, 1)));
        assert_eq!(validity.map(|validity| validity.ends - validity.begins), Some(86_400));
    }

    #[test]
    fn what_is_no_certificate_has_no_time() {
        let whole = certificate((2020, 1, 1), (2030, 1, 1));
        for end in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..end]), None, "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..400usize) {
            Validity::of(&bytes);
            let mut whole = certificate((2020, 1, 1), (2030, 1, 1));
            let end = (at + bytes.len()).min(whole.len());
            whole.splice(at.min(end)..end, bytes);
            Validity::of(&whole);
        }
    }
}
