//! What every command is given: its settings, and the application that it belongs to.

use std::ops::Deref;

use crate::app::Options;
use crate::config::Settings;

/// The settings of a command, and what the application adds that it belongs to.
#[derive(Clone)]
pub struct Program {
    /// The settings.
    pub settings: Settings,
    /// What the application adds.
    pub options: Options,
}

impl Deref for Program {
    type Target = Settings;

    fn deref(&self) -> &Settings {
        &self.settings
    }
}
