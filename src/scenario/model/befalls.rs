//! What befalls a machine from outside.

use rhizome_engine::event::ServerStatus;

use super::Machine;

impl Machine {
    pub(in crate::scenario) fn die(&mut self) {
        self.alive = false;
    }

    pub(in crate::scenario) fn break_down(&mut self) {
        self.alive = false;
        self.broken = true;
    }

    pub(in crate::scenario) fn agent_dies(&mut self) {
        self.agent = false;
    }

    pub(in crate::scenario) fn come_back(&mut self) {
        self.alive = true;
        self.agent = true;
    }

    pub(in crate::scenario) fn stop(&mut self) {
        self.alive = false;
        self.status = ServerStatus::Shutoff;
    }

    pub(in crate::scenario) fn delete(&mut self) {
        self.there = false;
        self.alive = false;
    }

    pub(in crate::scenario) fn hide(&mut self) {
        self.hidden = true;
    }

    pub(in crate::scenario) fn show(&mut self) {
        self.hidden = false;
    }
}
