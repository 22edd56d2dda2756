//! Who listens.

use std::sync::Mutex;

use super::Event;

/// Takes events. Called from many threads; returns soon and never fails.
pub trait EventSink: Send + Sync {
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Debug, Default, Clone, Copy)]
pub struct Null;

impl EventSink for Null {
    fn emit(&self, _event: Event) {}
}

/// Keeps every event; the sink of tests.
impl EventSink for Mutex<Vec<Event>> {
    fn emit(&self, event: Event) {
        if let Ok(mut events) = self.lock() {
            events.push(event);
        }
    }
}

/// Calls a function with every event.
impl<F: Fn(Event) + Send + Sync> EventSink for F {
    fn emit(&self, event: Event) {
        self(event);
    }
}
