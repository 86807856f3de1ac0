//! The REST side as a client sees it.

use std::time::Duration;

use serde_json::{Value, json};

/// An answer: status and JSON body (null if there is none).
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

/// A client of one node.
#[derive(Clone)]
pub struct Rest {
    base: String,
    http: reqwest::Client,
}

impl Rest {
    /// # Panics
    /// When no client can be made at all.
    pub fn new(base: impl Into<String>) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .no_proxy()
            .build();
        Self {
            base: base.into(),
            http: http.expect("a plain HTTP client needs nothing"),
        }
    }

    pub async fn get(&self, path: &str) -> reqwest::Result<Answer> {
        answer(self.http.get(format!("{}{path}", self.base)).send().await?).await
    }

    pub async fn get_text(&self, path: &str) -> reqwest::Result<String> {
        self.http
            .get(format!("{}{path}", self.base))
            .send()
            .await?
            .text()
            .await
    }

    /// A POST with a JSON body, and a bearer token where one is given.
    pub async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.post(format!("{}{path}", self.base)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        answer(request.send().await?).await
    }

    /// Any request with a bearer token; `null` sends no body.
    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> reqwest::Result<Answer> {
        self.ask_with(method, path, token, body, &[]).await
    }

    /// The same with further headers.
    ///
    /// # Panics
    /// When there is no such method.
    pub async fn ask_with(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        let method = method.parse().expect("a method of HTTP");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        request = request.bearer_auth(token);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        answer(request.send().await?).await
    }

    pub async fn register(&self, name: &str, password: &str) -> reqwest::Result<Answer> {
        self.post(
            "/api/v1/auth/register",
            None,
            &json!({"username": name, "password": password}),
        )
        .await
    }

    pub async fn login(&self, name: &str, password: &str) -> reqwest::Result<Answer> {
        self.post(
            "/api/v1/auth/login",
            None,
            &json!({"username": name, "password": password}),
        )
        .await
    }

    pub async fn logout(&self, token: &str) -> reqwest::Result<Answer> {
        self.post("/api/v1/auth/logout", Some(token), &json!({}))
            .await
    }
}

async fn answer(response: reqwest::Response) -> reqwest::Result<Answer> {
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok(Answer {
        status,
        body: serde_json::from_str(&text).unwrap_or_default(),
    })
}
