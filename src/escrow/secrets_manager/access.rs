//! How the service is reached: region, endpoint, credentials, time limits.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::interceptors::{
    BeforeDeserializationInterceptorContextMut, BeforeTransmitInterceptorContextRef,
};
use aws_sdk_secretsmanager::config::retry::RetryConfig;
use aws_sdk_secretsmanager::config::timeout::TimeoutConfig;
use aws_sdk_secretsmanager::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_secretsmanager::error::BoxError;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

use crate::ground::{Error, Result, endpoint, runtime};

/// How often a call is tried in all.
const ATTEMPTS: u32 = 4;
/// How long one try may take, and how long all of them.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(30));
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in MiB: a page of a listing whose secrets have all the tags that AWS allows takes 2.5.
pub(super) const LONGEST: usize = 4;

/// Where the service is and as whom it is asked; what is left out comes from the environment and the AWS profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The region, such as `eu-west-1`.
    pub region: Option<String>,
    /// Another address than the region's own.
    pub endpoint: Option<String>,
    /// The profile in the AWS configuration files.
    pub profile: Option<String>,
}

impl Access {
    /// The access to a secret, whose ARN says which region it is in: `arn:aws:secretsmanager:REGION:…`.
    #[must_use]
    pub fn to(mut self, secret: &str) -> Self {
        let region = secret.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2));
        if let Some(region) = region.filter(|region| !region.is_empty()) {
            self.region = Some(region.to_owned());
        }
        self
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AWS Secrets Manager")?;
        if let Some(region) = &self.region {
            write!(f, " in {region}")?;
        }
        if let Some(endpoint) = &self.endpoint {
            write!(f, " at {endpoint}")?;
        }
        Ok(())
    }
}

/// A client of the service, made when it is first asked for; escrows and references of one access share it.
pub struct Service {
    pub(super) access: Access,
    client: OnceLock<Client>,
}

impl Service {
    /// Nothing is connected before it is used.
    pub fn new(access: Access) -> Self {
        Self { access, client: OnceLock::new() }
    }

    /// How it is reached.
    pub fn access(&self) -> &Access {
        &self.access
    }

    pub(super) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = runtime::wait(connect(&self.access))?;
        Ok(self.client.get_or_init(|| client))
    }
}

async fn connect(access: &Access) -> Result<Client> {
    let http = Builder::new().build_with_connector_fn(|settings, components| {
        let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).build()
    });
    let (attempt, whole) = PATIENCE;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(Duration::from_millis(300))
                .with_max_backoff(Duration::from_secs(5)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT)
                .operation_attempt_timeout(attempt)
                .operation_timeout(whole)
                .build(),
        );
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &access.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(profile) = &access.profile {
        loader = loader.profile_name(profile);
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(Error::usage("no region of AWS is named")
            .hint("Set region in the [[escrow]], AWS_REGION, or region in the AWS profile."));
    }
    let config = aws_sdk_secretsmanager::config::Builder::from(&shared)
        .interceptor(NoPlainHttp)
        .interceptor(NoEndlessAnswer)
        .build();
    Ok(Client::from_conf(config))
}

/// Lets nothing out over `http` that leaves this machine, wherever the endpoint was named.
#[derive(Debug)]
struct NoPlainHttp;

impl Intercept for NoPlainHttp {
    fn name(&self) -> &'static str {
        "NoPlainHttp"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        endpoint::private(context.request().uri(), "the endpoint of AWS").map_err(Into::into)
    }
}

/// Ends an answer that is longer than any of the service's: all of it would be held in memory.
#[derive(Debug)]
struct NoEndlessAnswer;

impl Intercept for NoEndlessAnswer {
    fn name(&self) -> &'static str {
        "NoEndlessAnswer"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let body = context.response_mut().take_body();
        *context.response_mut().body_mut() = SdkBody::from_body_1_x(Limited::new(body, LONGEST << 20));
        Ok(())
    }
}
