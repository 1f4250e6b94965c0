//! What a form sends: read with a bound, and taken only from the page that it was made for.

use super::access::{Role, Visitor};
use super::refused::Refused;
use axum::http::HeaderMap;
use tallybook_rules::Rejection;
use url::form_urlencoded;

/// The longest form, in bytes.
const MAX_FORM_BYTES: usize = 4_096;

/// What stands in a form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads a form: [`Rejection::RequestTooLarge`].
    pub(super) fn read(body: &[u8]) -> Result<Self, Refused> {
        if body.len() > MAX_FORM_BYTES {
            return Err(Rejection::RequestTooLarge.into());
        }
        Ok(Self(form_urlencoded::parse(body).into_owned().collect()))
    }

    /// What stands in a field; empty where it is not there.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value)
    }

    /// The form of an act: only an administrator's, and only one that was made for them.
    pub(super) fn of_act(visitor: &Visitor, headers: &HeaderMap, body: &[u8]) -> Result<Self, Refused> {
        if visitor.role != Role::Administrator {
            return Err(Refused::NotAdministrator);
        }
        let fields = Self::read(body)?;
        if from_elsewhere(headers) || !visitor.made(fields.get("form")) {
            return Err(Refused::ForeignForm);
        }
        Ok(fields)
    }
}

/// Whether a browser says that another site has it ask. What says nothing is no browser of these years.
pub(super) fn from_elsewhere(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    site.is_some_and(|site| site != b"same-origin" && site != b"none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn given_forms_when_they_are_read_then_fields_are_there_and_large_ones_are_refused() {
        let fields = Fields::read(b"form=ab%26&page=x+y").unwrap();
        assert_eq!((fields.get("form"), fields.get("page"), fields.get("other")), ("ab&", "x y", ""));
        assert_eq!(Fields::read(&[b'a'; MAX_FORM_BYTES + 1]), Err(Rejection::RequestTooLarge.into()));
    }

    #[test]
    fn given_a_browser_that_says_who_has_it_ask_then_only_the_same_origin_and_the_user_may() {
        let of = |site: Option<&'static str>| {
            let site = site.map(|site| ("sec-fetch-site".parse().unwrap(), HeaderValue::from_static(site)));
            from_elsewhere(&site.into_iter().collect())
        };
        let said = [None, Some("none"), Some("same-origin"), Some("same-site"), Some("cross-site"), Some("")];
        assert_eq!(said.map(of), [false, false, false, true, true, true]);
    }
}
