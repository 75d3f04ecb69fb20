//! The files of a volume that is made from API objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// The owner, when it is not root.
    pub(crate) owner: Option<u32>,
}

/// Files by their path in the volume.
pub(crate) type Payload = BTreeMap<String, File>;

/// The permission bits that a volume gives when it says nothing.
pub(crate) const DEFAULT_MODE: i32 = 0o644;

/// Permission bits as the API has them.
pub(crate) fn mode_bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o7777
}

/// A config map's keys and contents.
pub(crate) fn of_config_map(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let texts = map
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone().into_bytes()));
    let bytes = map
        .binary_data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()));
    texts.chain(bytes).collect()
}

/// A secret's keys and contents.
pub(crate) fn of_secret(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret
        .data
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.0.clone()))
        .collect()
}

/// The files that `items` picks; all keys when there are none. `kind` is `config` or `secret`, for the error.
///
/// # Errors
/// When a key that must be there is not.
pub(crate) fn pick(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&Vec<KeyToPath>>,
    default_mode: i32,
    optional: bool,
    kind: &str,
) -> Result<Payload, String> {
    let file = |data: &Vec<u8>, mode| File {
        data: data.clone(),
        mode: mode_bits(mode),
        owner: None,
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data
            .iter()
            .map(|(key, data)| (key.clone(), file(data, default_mode)))
            .collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(data) => {
                payload.insert(item.path.clone(), file(data, item.mode.unwrap_or(default_mode)));
            }
            None if optional => {}
            None => return Err(format!("references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let data: BTreeMap<String, Vec<u8>> =
            [("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())].into();
        let all = pick(&data, None, 0o400, false, "config").unwrap();
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(all["a"].mode, 0o400);
        let item = |key: &str| KeyToPath {
            key: key.into(),
            path: format!("dir/{key}"),
            mode: Some(0o755),
            ..KeyToPath::default()
        };
        let some = pick(&data, Some(&vec![item("b")]), 0o644, false, "config").unwrap();
        assert_eq!((some.len(), some["dir/b"].mode), (1, 0o755));
        let missing = pick(&data, Some(&vec![item("z")]), 0o644, false, "secret");
        assert_eq!(missing, Err("references non-existent secret key: z".into()));
        assert_eq!(
            pick(&data, Some(&vec![item("z")]), 0o644, true, "secret"),
            Ok(Payload::new())
        );
    }
}
