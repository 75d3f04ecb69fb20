//! The forms of an entry beside its JSON, each made once and shared by everyone who reads or watches in that form.

use std::borrow::Cow;
use std::sync::OnceLock;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::ApiResult;

/// A form of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The whole in protobuf.
    Protobuf,
    /// The metadata, in a version of `meta.k8s.io`, in JSON or, where that is said, in protobuf.
    Partial(&'static str, bool),
    /// The whole in a version that is not the stored one, in JSON or, where that is said, in protobuf.
    Version(Cow<'static, str>, bool),
    /// The cells of its row in a table, as of a second: they tell ages.
    Cells(i64),
}

impl Form {
    /// Whether one takes the other's place: the cells of another second.
    fn replaces(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::Cells(_), Self::Cells(_)))
    }
}

/// A form, made: the three are one allocation.
#[derive(Clone, Debug)]
pub(crate) struct Framed {
    /// The frame of the watch event that announces the entry.
    pub(crate) frame: Bytes,
    /// The object in the frame.
    pub(crate) object: Bytes,
    /// What of the object stands among the items of a list.
    pub(crate) item: Bytes,
}

impl From<Bytes> for Framed {
    /// Of a form that is no frame by itself.
    fn from(bytes: Bytes) -> Self {
        Self {
            frame: bytes.clone(),
            object: bytes.clone(),
            item: bytes,
        }
    }
}

/// The forms that somebody has asked for. Most entries have none, and pay a pointer for it.
#[derive(Debug, Default)]
pub(super) struct Forms(OnceLock<Box<Made>>);

type Made = Mutex<Vec<(Form, Framed)>>;

impl Forms {
    /// The form; who comes while it is being made waits for it, which is shorter than making it again.
    pub(super) fn get(&self, form: Form, make: impl FnOnce() -> ApiResult<Framed>) -> ApiResult<Framed> {
        let mut made = self.0.get_or_init(Box::default).lock();
        if let Some((_, framed)) = made.iter().find(|(its, _)| *its == form) {
            return Ok(framed.clone());
        }
        let framed = make()?;
        made.retain(|(its, _)| !form.replaces(its));
        made.push((form, framed.clone()));
        Ok(framed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ApiError;

    #[test]
    fn a_form_is_made_once_and_cells_do_not_pile_up() {
        let forms = Forms::default();
        let made = |form, text: &'static str| {
            let make = || Ok(Bytes::from_static(text.as_bytes()).into());
            forms.get(form, make).unwrap().frame
        };
        assert!(
            forms
                .get(Form::Protobuf, || Err(ApiError::internal("no")))
                .is_err()
        );
        assert_eq!(made(Form::Protobuf, "a"), "a");
        assert_eq!(made(Form::Protobuf, "b"), "a");
        assert_eq!(made(Form::Cells(1), "1s"), "1s");
        assert_eq!(made(Form::Cells(1), "x"), "1s");
        assert_eq!(made(Form::Cells(2), "2s"), "2s");
        assert_eq!(forms.0.get().unwrap().lock().len(), 2);
    }
}
