//! Putting the controller together: store, state, TLS, services. Also what tests call to run one in-process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fleet::Timestamp;
use fleet::drift::Life;
use fleet_certs::{
    AllowList, Authority, Certificate, Identity, Limits, Role, Sealer, ServerTls, Sessions, accept_loop,
};
use fleet_proto::v1;
use tokio::net::TcpListener;
use tonic::transport::Server;

use crate::api::{AccessLayer, OperatorService};
use crate::artifacts::Artifacts;
use crate::config::{Backend, Config};
use crate::enrol::EnrolmentService;
use crate::init::Layout;
use crate::link::LinkService;
use crate::mind::{Mind, State};
use crate::store::{IndexFate, OpenMode, open_redb, open_sled};
use crate::{clock, records, service_manager};

/// The largest message accepted: an attestation of a node with thousands of deviations fits.
const LARGEST_MESSAGE: usize = 4 << 20;

/// Runs a controller until `stop` is ready or its store fails. When this returns, the port is free and the store is
/// closed: another controller may take both at once.
///
/// # Errors
/// With what could not be opened, read or bound, and what to do.
pub async fn serve(config: &Config, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let listener = bind(config.listen).await?;
    serve_on(listener, config, stop).await
}

/// As [`serve`], on a listener that is bound already; the configuration's address is not looked at.
///
/// # Errors
/// With what could not be opened or read, and what to do.
pub async fn serve_on(listener: TcpListener, config: &Config, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    fleet_certs::install_crypto_provider();
    let layout = Layout(&config.data_dir);
    let authority = Authority::load(&layout.authority()).with_context(|| {
        format!("{} is not a controller's data directory: run fleet-controller init first", config.data_dir.display())
    })?;
    let own = layout.own().load().context("the controller's own identity cannot be read")?;
    let listen = listener.local_addr().context("the listener has no address")?;

    let sealer = Sealer::load_or_create(&authority, &layout.statement_key(), clock::system_now())
        .context("the controller's key for statements cannot be used")?;

    let store = match config.store {
        Backend::Sled => open_sled(&layout.store(), OpenMode::Existing),
        Backend::Redb => open_redb(&layout.store(), OpenMode::Existing),
    }?;
    let recovery = store.recovery();
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovery.torn_bytes,
            "an unfinished record was cut from the commit log: it was never acknowledged"
        );
    }
    if let IndexFate::Rebuilt { why, aside } = &recovery.index {
        tracing::warn!(why, aside = ?aside, "the store's index was rebuilt from the commit log");
    }
    let loaded = records::load(store.as_ref()).await?;

    let allowed = AllowList::default();
    for (name, enrolled) in loaded.nodes.iter().filter_map(|(name, record)| Some((name, record.enrolled.as_ref()?))) {
        allowed.grant(Identity::new(Role::Node, name.as_str())?, enrolled.serial.clone());
    }
    for operator in loaded.operators.values() {
        for certificate in &operator.certificates {
            allowed.grant(Identity::new(Role::Operator, operator.name.clone())?, certificate.serial.clone());
        }
    }
    let sessions = Sessions::new(allowed.clone());
    let artifacts = Artifacts::open(&config.data_dir)?;
    let fleet_name = config.data_dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut state = State::restore(fleet_name, loaded, &artifacts, config, allowed, sessions.clone(), clock::now())?;
    state.sign_with(sealer);
    let certificate =
        Certificate::from_pem(&own.cert_pem).context("the controller's own certificate cannot be read")?;
    state.watch_certificates(vec![
        (
            "the controller's certificate",
            Life { from: clock::at(certificate.not_before), until: clock::at(certificate.not_after) },
        ),
        // It lives for years: when it began makes no difference to when its end is told.
        ("the authority's certificate", Life { from: Timestamp(0), until: clock::at(authority.not_after()) }),
    ]);
    let (mind, mut thinking) = Mind::start(state, store, config.observe_every);

    let living = service_manager::live(mind.pulse());
    let authority = Arc::new(authority);
    let tls = ServerTls::new(&own.ca_pem, &own.cert_pem, &own.key_pem)?;
    let incoming = accept_loop(listener, tls, Limits::default(), sessions);
    let link = v1::link_server::LinkServer::new(LinkService::new(mind.clone(), artifacts.clone()))
        .max_decoding_message_size(LARGEST_MESSAGE);
    let operator = OperatorService::new(mind.clone(), artifacts, authority.clone());
    let operator = v1::operator_server::OperatorServer::new(operator).max_decoding_message_size(LARGEST_MESSAGE);
    let enrolment = v1::enrolment_server::EnrolmentServer::new(EnrolmentService::new(mind, authority))
        .max_decoding_message_size(64 << 10);
    let server = Server::builder()
        .max_concurrent_streams(64)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .http2_max_header_list_size(16 << 10)
        .layer(AccessLayer)
        .add_service(link)
        .add_service(operator)
        .add_service(enrolment)
        .serve_with_incoming(incoming);
    tracing::info!(%listen, "the controller is ready");
    service_manager::ready(&format!("serving agents and operators on {listen}"));

    // Streams of agents never end by themselves, so a stop does not wait for them: everything said is saved.
    let ended = tokio::select! {
        served = server => served.context("serving failed"),
        thought = &mut thinking => match thought {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error).context("the store failed: the controller stops rather than say what is not saved"),
            Err(panic) => Err(panic).context("the controller's mind stopped"),
        },
        () = stop => Ok(()),
        never = living => match never {},
    };
    service_manager::stopping();
    // The listener went with the server. The mind lets go of the store before this returns, too.
    thinking.abort();
    if !thinking.is_finished() {
        drop(thinking.await);
    }
    ended
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!("{address} is in use: another controller or program listens there (ss -ltnp 'sport = :{}'); stop it, or set another 'listen'", address.port()),
        _ => anyhow::anyhow!("cannot listen on {address}: {e}"),
    })
}
