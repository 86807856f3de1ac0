//! Metrics of REST.

use shared::{
    label, metrics,
    metrics::{Counter, Histogram, LATENCY},
};

label! {
    /// What was asked for.
    pub enum Route: "route" {
        Register = "register",
        Login = "login",
        Refresh = "refresh",
        Logout = "logout",
        LogoutAll = "logout_all",
        Users = "users",
        Categories = "categories",
        Commands = "commands",
        Admin = "admin",
        Health = "health",
        Upgrade = "upgrade",
        Other = "other",
    }
}

impl Route {
    /// By the path.
    pub fn of(path: &str) -> Self {
        match path {
            "/api/v1/auth/register" => Self::Register,
            "/api/v1/auth/login" => Self::Login,
            "/api/v1/auth/refresh" => Self::Refresh,
            "/api/v1/auth/logout" => Self::Logout,
            "/api/v1/auth/logout-all" => Self::LogoutAll,
            "/live" | "/ready" | "/health" | "/api/v1/health" => Self::Health,
            "/api/ws" | "/ws" => Self::Upgrade,
            "/api/v1/categories" => Self::Categories,
            "/api/v1/commands" => Self::Commands,
            _ if path.starts_with("/api/v1/users/") => Self::Users,
            _ if path.starts_with("/api/v1/commands/") => Self::Commands,
            _ if path.starts_with("/api/v1/admin/") => Self::Admin,
            _ => Self::Other,
        }
    }
}

label! {
    /// How it was answered.
    pub enum Outcome: "outcome" {
        Ok = "ok",
        Refused = "refused",
        Failed = "failed",
    }
}

impl Outcome {
    /// By the status: below 400, below 500, above.
    pub fn of(status: u16) -> Self {
        match status {
            0..400 => Self::Ok,
            400..500 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

metrics! {
    pub static TABLE;
    /// HTTP requests answered: `refused` is a 4xx status, `failed` a 5xx.
    pub static REQUESTS: Counter<(Route, Outcome)> = "tidegate_http_requests_total";
    /// Time from the head of an HTTP request to the head of its answer.
    pub static REQUEST_SECONDS: Histogram<Route> = "tidegate_http_request_seconds", LATENCY;
}
