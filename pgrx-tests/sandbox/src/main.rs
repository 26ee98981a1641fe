//! The sandbox as a program: `integration-sandbox --help`.

use std::io::Write;
use std::process::ExitCode;

use integration_sandbox::{Config, Rate, Sandbox, Subscriptions};
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
A stand-in for HubSpot and Mailchimp. Prints its URLs on one line when ready.

  --port N                   HubSpot port (0: any); Mailchimp takes the next one unless told
  --mailchimp-port N         Mailchimp port (0: any)
  --hubspot-token TOKEN      static token that is accepted
  --mailchimp-key KEY        API key that is accepted
  --list-id ID               the audience that exists
  --hubspot-rate MAX/SECs    rolling window such as 100/10s, or off
  --association-rate MAX/SECs  the same for requests about associations, or off
  --search-rate N            searches a second, or off
  --daily-limit N            HubSpot calls a day, or off
  --mailchimp-connections N  simultaneous connections, or off
  --delay-ms N               every answer is sent this much later
  --webhooks all|off         which HubSpot changes become webhooks
  --webhook-secret SECRET    signs HubSpot webhooks (the client secret)
  --webhook-uri URL          public URL of the HubSpot webhook receiver
  --mailchimp-webhook-url U  URL of the Mailchimp webhook that exists
  --post-webhooks            deliver webhooks to those URLs (plain http)
  --log N                    requests kept in the log
  --seed N                   seeds the order of results
  --unlimited                all limits off
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("integration-sandbox: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let Some(config) = configured(Parser::from_env())? else {
        print!("{HELP}");
        return Ok(());
    };
    let (token, key, list) = (
        config.hubspot.token.clone().unwrap_or_default(),
        config.mailchimp.api_key.clone(),
        config.mailchimp.list_id.clone(),
    );
    let sandbox = Sandbox::try_start(config)?;
    println!(
        "hubspot={} mailchimp={} control={}/_sandbox token={token} key={key} list={list}",
        sandbox.hubspot_url(),
        sandbox.mailchimp_url(),
        sandbox.hubspot_url(),
    );
    std::io::stdout().flush()?;
    sandbox.wait();
    Ok(())
}

fn configured(mut arguments: Parser) -> Result<Option<Config>, Box<dyn std::error::Error>> {
    let (mut config, mut mailchimp_port_given) = (Config::default(), false);
    while let Some(argument) = arguments.next()? {
        let Arg::Long(name) = argument else {
            return Err(argument.unexpected().into());
        };
        let name = name.to_owned();
        match &*name {
            "help" => return Ok(None),
            "unlimited" => {
                config.hubspot.rate = None;
                config.hubspot.association_rate = None;
                config.hubspot.search_per_second = None;
                config.hubspot.daily_limit = None;
                config.mailchimp.max_connections = None;
                continue;
            }
            "post-webhooks" => {
                config.hubspot.webhook_post = true;
                config.mailchimp.webhook_post = true;
                continue;
            }
            _ => {}
        }
        mailchimp_port_given |= name == "mailchimp-port";
        set(&mut config, &name, &arguments.value()?.string()?)?;
    }
    if !mailchimp_port_given && config.hubspot_port != 0 {
        config.mailchimp_port = config
            .hubspot_port
            .checked_add(1)
            .ok_or("there is no port after --port")?;
    }
    Ok(Some(config))
}

fn set(config: &mut Config, name: &str, value: &str) -> Result<(), Box<dyn std::error::Error>> {
    match name {
        "port" => config.hubspot_port = value.parse()?,
        "mailchimp-port" => config.mailchimp_port = value.parse()?,
        "hubspot-token" => config.hubspot.token = Some(value.to_owned()),
        "mailchimp-key" => value.clone_into(&mut config.mailchimp.api_key),
        "list-id" => value.clone_into(&mut config.mailchimp.list_id),
        "hubspot-rate" => config.hubspot.rate = rate(value)?,
        "association-rate" => config.hubspot.association_rate = rate(value)?,
        "search-rate" => config.hubspot.search_per_second = unless_off(value)?,
        "daily-limit" => config.hubspot.daily_limit = unless_off(value)?,
        "mailchimp-connections" => config.mailchimp.max_connections = unless_off(value)?,
        "delay-ms" => config.delay_ms = value.parse()?,
        "webhooks" => {
            config.hubspot.subscriptions = if value == "off" {
                Subscriptions::None
            } else {
                Subscriptions::All
            }
        }
        "webhook-secret" => value.clone_into(&mut config.hubspot.client_secret),
        "webhook-uri" => value.clone_into(&mut config.hubspot.webhook_uri),
        "mailchimp-webhook-url" => {
            value.clone_into(&mut config.mailchimp.webhook.get_or_insert_default().url);
        }
        "log" => config.log_capacity = value.parse()?,
        "seed" => config.seed = value.parse()?,
        _ => return Err(format!("--{name} is not known; see --help").into()),
    }
    Ok(())
}

/// `off` or a number.
fn unless_off<T: std::str::FromStr>(value: &str) -> Result<Option<T>, T::Err> {
    if value == "off" {
        Ok(None)
    } else {
        value.parse().map(Some)
    }
}

/// `off` or `100/10s`.
fn rate(value: &str) -> Result<Option<Rate>, Box<dyn std::error::Error>> {
    if value == "off" {
        return Ok(None);
    }
    let (max, seconds) = value.split_once('/').ok_or("a rate looks like 100/10s")?;
    let seconds: u64 = seconds.trim_end_matches('s').parse()?;
    Ok(Some(Rate {
        max: max.parse()?,
        interval_ms: seconds * 1_000,
    }))
}
