//! The query of a URL: decoded pairs, read the way Go's `url.ParseQuery` and the API's conversions read them.

/// The pairs of a query, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query; a malformed escape is kept as it is written.
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key, true), decode(value, true))
                })
                .collect(),
        )
    }

    /// The first value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(its, _)| its == key)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(its, _)| its == key)
            .map(|(_, value)| value.as_str())
    }

    /// A value that is not empty.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.get(key)
            .filter(|value| !value.is_empty())
            .map(str::to_string)
    }

    /// A boolean as the API reads one: absent, `0` and `false` are false, everything else is true, the empty value too.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(truth)
    }

    /// A boolean that may be absent.
    pub(crate) fn optional_flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(truth)
    }
}

fn truth(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

/// Undoes percent-encoding; in a query `+` is a space.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if plus_is_space => decoded.push(b' '),
            b'%' => {
                let mut ahead = bytes.clone();
                match (ahead.next().and_then(digit), ahead.next().and_then(digit)) {
                    (Some(high), Some(low)) => {
                        decoded.push(high << 4 | low);
                        bytes = ahead;
                    }
                    _ => decoded.push(byte),
                }
            }
            _ => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse(Some(
            "labelSelector=app+in+%28a%2Cb%29&watch=1&dryRun=All&dryRun=x&e=&bad=%zz&f=false",
        ));
        assert_eq!(query.get("labelSelector"), Some("app in (a,b)"));
        assert!(query.flag("watch"));
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "x"]);
        assert!(query.flag("e") && !query.flag("f") && !query.flag("absent"));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert_eq!(query.text("e"), None);
    }
}
