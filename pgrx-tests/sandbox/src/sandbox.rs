//! The handle that tests hold.

mod administrators;
mod people;
mod state;

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::config::{Config, Service};
use crate::delivery::Delivery;
use crate::faults::{ActiveFault, Fault};
use crate::server::{self, Command, Shared};
use crate::world::World;

/// A running sandbox. It serves from a thread of its own and stops when dropped.
#[derive(Debug)]
pub struct Sandbox {
    shared: Shared,
    hubspot: SocketAddr,
    mailchimp: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts with the given configuration; fails if a port is taken.
    pub fn try_start(config: Config) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (commands, received) = mpsc::unbounded_channel();
        let (hubspot, mailchimp) = {
            // Sockets register with the runtime that will serve them.
            let _inside = runtime.enter();
            (
                server::listen(Service::HubSpot.port_in(&config))?,
                server::listen(Service::Mailchimp.port_in(&config))?,
            )
        };
        let (hubspot_at, mailchimp_at) = (hubspot.local_addr()?, mailchimp.local_addr()?);
        let shared = Shared::new(World::new(config), commands);
        let serving = shared.clone();
        let listeners = [
            (Service::HubSpot, hubspot, hubspot_at),
            (Service::Mailchimp, mailchimp, mailchimp_at),
        ];
        let thread = std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(move || runtime.block_on(server::run(serving, listeners, received)))?;
        Ok(Self {
            shared,
            hubspot: hubspot_at,
            mailchimp: mailchimp_at,
            thread: Some(thread),
        })
    }

    /// Like [`Sandbox::try_start`]; panics if the ports can't be opened, which is what a test wants.
    pub fn start(config: Config) -> Self {
        match Self::try_start(config) {
            Ok(sandbox) => sandbox,
            Err(error) => panic!("the sandbox could not start: {error}"),
        }
    }

    /// Base URL to use instead of `https://api.hubapi.com`.
    pub fn hubspot_url(&self) -> String {
        format!("http://{}", self.hubspot)
    }

    /// Base URL to use instead of `https://us1.api.mailchimp.com`; paths below it begin `/3.0`.
    pub fn mailchimp_url(&self) -> String {
        format!("http://{}", self.mailchimp)
    }

    /// Closes the service's port and its connections; state and port number stay.
    pub fn go_down(&self, service: Service) {
        let (done, closed) = oneshot::channel();
        if self
            .shared
            .commands
            .send(Command::Down(service, done))
            .is_ok()
        {
            // An error means that the server has stopped, so the port is closed as well.
            let _ = closed.blocking_recv();
        }
    }

    /// Opens the service's port again.
    pub fn come_up(&self, service: Service) -> io::Result<()> {
        let (done, opened) = oneshot::channel();
        self.shared
            .commands
            .send(Command::Up(service, done))
            .map_err(|_| stopped())?;
        opened.blocking_recv().map_err(|_| stopped())?
    }

    /// Stops serving; the state can still be inspected.
    pub fn stop(&mut self) {
        // An error means that it has stopped already.
        let _ = self.shared.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic of the server was reported on stderr by its thread.
            let _ = thread.join();
        }
    }

    /// Blocks until the server ends; for the binary.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Changes settings while running; ports and what exists already stay.
    pub fn configure(&self, change: impl FnOnce(&mut Config)) {
        let mut world = self.shared.world();
        let mut config = world.config.clone();
        change(&mut config);
        world.configure(config);
    }

    /// Forgets records, faults, log, counters and webhooks.
    pub fn reset(&self) {
        self.shared.world().reset();
    }

    /// Empties the log and zeroes the counters.
    pub fn reset_log(&self) {
        self.shared.world().reset_log();
    }

    // Trouble.

    /// Adds a fault; returns its number.
    pub fn add_fault(&self, fault: Fault) -> u64 {
        self.shared.world().faults.add(fault)
    }

    pub fn remove_fault(&self, number: u64) {
        self.shared.world().faults.remove(number);
    }

    pub fn clear_faults(&self) {
        self.shared.world().faults.clear();
    }

    pub fn faults(&self) -> Vec<ActiveFault> {
        self.shared.world().faults.list().to_vec()
    }

    // Webhooks.

    /// Takes the webhooks that wait, as signed requests ready to be delivered.
    pub fn take_webhooks(&self) -> Vec<Delivery> {
        self.shared.world().take_webhooks()
    }

    /// Forgets the webhooks that wait.
    pub fn clear_webhooks(&self) {
        self.shared.world().clear_webhooks();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stopped() -> io::Error {
    io::Error::other("the sandbox has stopped")
}
