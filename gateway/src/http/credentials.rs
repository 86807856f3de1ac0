//! Where the token of an upgrade request may stand.

use axum::extract::Query;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, Uri,
    header::{AUTHORIZATION, COOKIE},
};

/// The cookie that holds a token.
const COOKIE_NAME: &str = "tidegate_session";

/// What the query of an upgrade request says. A parameter that stands there twice is an
/// error, as nobody knows which is meant; unknown ones are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) token: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) device: Option<String>,
    pub(super) after: Option<String>,
    pub(super) ack: Option<String>,
}

impl Parameters {
    pub(super) fn read(uri: &Uri) -> Result<Self, String> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err("the query is malformed".to_owned());
        };
        let mut parameters = Self::default();
        for (name, value) in pairs {
            let place = match &*name {
                "token" => &mut parameters.token,
                "protocol" => &mut parameters.protocol,
                "device" => &mut parameters.device,
                "after" => &mut parameters.after,
                "ack" => &mut parameters.ack,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(format!("{name} stands in the query twice"));
            }
        }
        Ok(parameters)
    }
}

/// The token, from the first place that has one. A place that has one counts even if it is
/// a bad one. `cookies` says whether cookies count: only with a trusted `Origin`.
pub(super) fn token(headers: &HeaderMap, query: Option<String>, cookies: bool) -> Option<String> {
    let authorization = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if let Some((scheme, rest)) = authorization.and_then(|value| value.split_once(' ')) {
        if scheme.eq_ignore_ascii_case("bearer") {
            return Some(rest.trim().to_owned());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(password(rest).unwrap_or_default());
        }
    }
    query.or_else(|| if cookies { cookie(headers) } else { None })
}

/// The second half of `base64(<anything>:<token>)`.
fn password(basic: &str) -> Option<String> {
    let pair = String::from_utf8(STANDARD.decode(basic.trim()).ok()?).ok()?;
    Some(pair.split_once(':')?.1.to_owned())
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE_NAME)
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn the_first_place_wins() {
        let query = || Some("query".to_owned());
        let cookie = (COOKIE, "a=b; tidegate_session=cookie");
        let all = headers(&[(AUTHORIZATION, "bearer header"), cookie.clone()]);
        assert_eq!(token(&all, query(), true).as_deref(), Some("header"));
        let basic = headers(&[(AUTHORIZATION, "Basic YW55OmEuYi5j"), cookie.clone()]);
        assert_eq!(token(&basic, query(), true).as_deref(), Some("a.b.c"));
        let other = headers(&[(AUTHORIZATION, "Digest x"), cookie.clone()]);
        assert_eq!(token(&other, query(), true).as_deref(), Some("query"));
        assert_eq!(token(&other, None, true).as_deref(), Some("cookie"));
        assert_eq!(token(&other, None, false), None);
        assert_eq!(token(&headers(&[]), None, true), None);
    }

    #[test]
    fn a_broken_one_is_a_bad_token_and_not_none() {
        for basic in ["Basic !!", "Basic", "Basic ", "Basic YWJj"] {
            let found = token(&headers(&[(AUTHORIZATION, basic)]), None, false);
            let expected = if basic == "Basic" { None } else { Some("") };
            assert_eq!(found.as_deref(), expected, "{basic}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_may_stand_once() {
        let read = |query: &str| Parameters::read(&format!("/ws?{query}").parse().unwrap());
        let parameters = read("x=1&x=2&device=a%2Eb&after=1:2&token=t%2B").unwrap();
        assert_eq!(parameters.device.as_deref(), Some("a.b"));
        assert_eq!(parameters.after.as_deref(), Some("1:2"));
        assert_eq!(parameters.token.as_deref(), Some("t+"));
        assert_eq!(
            read("device=a&device=a"),
            Err("device stands in the query twice".to_owned())
        );
        assert_eq!(
            Parameters::read(&"/ws".parse().unwrap()),
            Ok(Parameters::default())
        );
    }
}
