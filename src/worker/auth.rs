//! HubSpot's OAuth tokens: the access token, in memory only, and the refresh token it is fetched
//! with. What to do when is decided in the engine; here secrets are kept and stored.

use std::time::Instant;

use integration_engine::delivery::outcome::TargetSignal;
use integration_engine::now::Now;
use integration_engine::record::Target;
use integration_engine::wire::{Reply, Request, TransportError};
use integration_hubspot::oauth::{self, OnUnauthorized, TokenAnswer, TokenStep, Tokens};
use pgrx::spi::SpiResult;

use crate::config::{Credential, OAuthApp, Settings};
use crate::http::SecretBody;
use crate::sealing;
use crate::secret::Secret;
use crate::store::{self, server::accounts, state};

/// Alert kind: a rotated refresh token could not be stored.
const UNSAVED: &str = "encryption_key";

/// One app's access to one account.
pub struct Session {
    app: OAuthApp,
    version: String,
    /// Tells sessions apart.
    opened: Instant,
    /// What a stored refresh token has to descend from to be used.
    seed: String,
    refresh_token: Secret,
    /// It differs from the one that is stored, or set.
    unsaved: bool,
    tokens: Tokens<Secret>,
}

/// What the token endpoint granted; to be stored before it is used.
pub struct Granted {
    access_token: Secret,
    expires_in: std::time::Duration,
    refresh_token: Option<Secret>,
}

/// What came of a renewal.
pub enum Renewal {
    Granted(Granted),
    Failed(TargetSignal),
}

impl Session {
    /// The session for the present settings: the one before if they are the same. In a transaction.
    pub fn renewed(
        before: Option<Session>,
        settings: &Settings,
        now: Now,
    ) -> SpiResult<Option<Session>> {
        let Some(Credential::OAuth(app)) = settings
            .endpoint(Target::HubSpot)
            .ok()
            .map(|endpoint| &endpoint.credential)
        else {
            return Ok(None);
        };
        let version = settings.hubspot_api.api_version.clone();
        if let Some(mut same) = before.filter(|before| before.app == *app) {
            same.version = version;
            if same.unsaved {
                same.save()?;
            }
            return Ok(Some(same));
        }
        let seed = oauth::seed(app.client_id.reveal(), app.refresh_token.reveal());
        let mut session = Session {
            app: app.clone(),
            version,
            opened: now.instant,
            refresh_token: app.refresh_token.clone(),
            seed,
            unsaved: false,
            tokens: Tokens::default(),
        };
        session.recall()?;
        Ok(Some(session))
    }

    /// Takes over the refresh token that replaced the one in the settings, if there is one.
    fn recall(&mut self) -> SpiResult<()> {
        let sealed = accounts::rotated(Target::HubSpot)?
            .filter(|(seed, _)| *seed == self.seed)
            .map(|(_, sealed)| sealed);
        let Some(sealed) = sealed else { return Ok(()) };
        match sealing::open(&sealing::keys(), &self.seed, &sealed) {
            Ok(token) => {
                self.refresh_token = token;
                Ok(())
            }
            Err(why) => state::raise(
                UNSAVED,
                Target::HubSpot,
                "",
                &format!(
                    "the stored HubSpot refresh token cannot be read: {why}; the one in the settings is used"
                ),
            ),
        }
    }

    fn save(&mut self) -> SpiResult<()> {
        let sealed = sealing::seal(&self.seed, self.refresh_token.reveal());
        match sealed {
            Ok(sealed) => {
                accounts::keep_rotated(Target::HubSpot, &self.seed, &sealed)?;
                store::commit_durably()?;
                self.unsaved = false;
                state::clear_alert(Target::HubSpot, UNSAVED, "")
            }
            Err(why) => {
                self.unsaved = true;
                state::raise(
                    UNSAVED,
                    Target::HubSpot,
                    "",
                    &format!(
                        "HubSpot sent a new refresh token that cannot be stored: {why}. It is kept in memory, and lost when the worker ends"
                    ),
                )
            }
        }
    }

    /// Tells sessions apart.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    pub fn step(&mut self, now: Now) -> TokenStep<Secret> {
        self.tokens.step(now.clock)
    }

    /// The token to send with; with none at all HubSpot answers 401, and it is sent again.
    pub fn token(&self, now: Now) -> Option<Secret> {
        self.tokens.token(now.clock).cloned()
    }

    pub fn request(&self) -> (Request, SecretBody) {
        let form = oauth::token_form(
            self.app.client_id.reveal(),
            self.app.client_secret.reveal(),
            self.refresh_token.reveal(),
        );
        (
            oauth::token_request(&self.version),
            SecretBody::Form(Secret::of(form)),
        )
    }

    /// Asks what a token may do.
    pub fn introspection(&self, token: &Secret) -> (Request, SecretBody) {
        let form = oauth::introspect_form(
            self.app.client_id.reveal(),
            self.app.client_secret.reveal(),
            token.reveal(),
        );
        (
            oauth::introspect_request(&self.version),
            SecretBody::Form(Secret::of(form)),
        )
    }

    /// An answer to a call made with `token`.
    pub fn heard(
        &mut self,
        token: &Secret,
        result: &Result<Reply, TransportError>,
    ) -> Option<OnUnauthorized> {
        match result {
            Ok(reply) if reply.status == 401 => Some(self.tokens.refused(token)),
            Ok(reply) if reply.status < 500 => {
                self.tokens.accepted(token);
                None
            }
            _ => None,
        }
    }

    /// The answer to [`Session::request`].
    pub fn answered(&mut self, result: &Result<Reply, TransportError>, now: Now) -> Renewal {
        match oauth::read_token(result.as_ref()) {
            TokenAnswer::Granted {
                access_token,
                expires_in,
                refresh_token,
            } => Renewal::Granted(Granted {
                access_token: Secret::of(access_token),
                expires_in,
                refresh_token: refresh_token.map(Secret::of),
            }),
            TokenAnswer::Refused { why } => {
                self.tokens.failed(now.clock);
                Renewal::Failed(TargetSignal::Unauthorized { why })
            }
            TokenAnswer::Failed { signal } => {
                self.tokens.failed(now.clock);
                Renewal::Failed(signal)
            }
        }
    }

    /// Stores what has to be kept of it, in the present transaction. It is used afterwards.
    pub fn store(&mut self, granted: &Granted) -> SpiResult<()> {
        let rotated = granted
            .refresh_token
            .as_ref()
            .filter(|token| **token != self.refresh_token);
        match rotated {
            Some(token) => {
                self.refresh_token = token.clone();
                self.save()
            }
            None => Ok(()),
        }
    }

    pub fn install(&mut self, granted: Granted, now: Now) {
        self.tokens
            .granted(granted.access_token, granted.expires_in, now.clock);
    }

    pub fn hurry(&mut self) {
        self.tokens.hurry();
    }
}
