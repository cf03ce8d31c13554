//! The paths of the router's own pages, which the configuration keeps WebSockets away from.

/// Every path of a page; no WebSocket may be configured at one of them.
pub const PATHS: &[&str] = &[
    "/",
    "/status.json",
    "/healthz",
    "/status.css",
    "/status.js",
    "/demo",
    "/demo/",
    "/demo/demo.css",
    "/demo/demo.js",
    "/demo/wamp.js",
];

/// Of these, the ones that answer whatever name the router is asked by: what they tell then is for all.
pub const PATHS_FOR_ALL: &[&str] = &["/healthz"];
