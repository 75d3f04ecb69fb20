//! A config map, with all that is in it.

use super::Told;
use super::page::Page;
use crate::fields::map;

pub(super) fn describe(told: &Told<'_>, page: &mut Page) {
    let config_map = told.object;
    page.metadata(config_map);
    page.line(0, "\nData\n====");
    for (key, value) in map(config_map, "/data") {
        page.line(0, format!("{key}:\n----"));
        page.line(0, format!("{}\n", value.as_str().unwrap_or_default()));
    }
    page.line(0, "\nBinaryData\n====");
    for (key, value) in map(config_map, "/binaryData") {
        let size = super::secret::decoded_length(value.as_str().unwrap_or_default());
        page.line(0, format!("{key}: {size} bytes"));
    }
    page.line(0, "");
    page.events(told.events.as_deref());
}
