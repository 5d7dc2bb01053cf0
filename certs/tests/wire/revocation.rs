//! Taking an identity away: open connections end at once, new ones are refused.

use fleet_certs::{DialError, Role};
use rcgen::ExtendedKeyUsagePurpose as Purpose;

use crate::fixture::{ASK, Fleet, HANG, call, within};

#[tokio::test]
async fn revoking_ends_what_is_open_and_refuses_what_comes() {
    let fleet = Fleet::new();
    let address = fleet.serve().await;
    let (evil, good) = (fleet.enrol(Role::Node, "evil"), fleet.enrol(Role::Node, "good"));
    let identity = Fleet::identity(Role::Node, "evil");
    let channel = fleet.channel(Some(&evil), address).await.unwrap();
    let other = fleet.channel(Some(&good), address).await.unwrap();
    let waiting = tokio::spawn(call(channel.clone(), HANG));
    within(fleet.hanging.notified()).await;
    assert_eq!(fleet.sessions.count(&identity), 1);

    fleet.allowed.withdraw(&identity);
    assert_eq!(fleet.sessions.revoke(&identity), 1);

    // The call that was waiting ends, the channel cannot come back, and the neighbour is not disturbed.
    within(waiting).await.unwrap().unwrap_err();
    within(call(channel, ASK)).await.unwrap_err();
    let error = fleet.channel(Some(&evil), address).await.unwrap_err();
    assert!(matches!(error, DialError::Rejected { .. }), "{error:?}");
    assert!(error.to_string().contains("revoked"), "{error}");
    within(call(other, ASK)).await.unwrap();
    assert_eq!(fleet.sessions.count(&identity), 0);
}

#[tokio::test]
async fn a_serial_that_nobody_issued_is_refused() {
    let fleet = Fleet::new();
    let address = fleet.serve().await;
    fleet.enrol(Role::Operator, "alice");
    let stolen_key = fleet.forge(&["spiffe://fleet/operator/alice"], Purpose::ClientAuth);
    let error = fleet.channel(Some(&stolen_key), address).await.unwrap_err();
    assert!(matches!(error, DialError::Rejected { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("not on the controller's list of issued"), "{text}");
}

#[tokio::test]
async fn renewed_certificates_overlap() {
    let fleet = Fleet::new();
    let address = fleet.serve().await;
    let (old, new) = (fleet.enrol(Role::Node, "n1"), fleet.enrol(Role::Node, "n1"));
    let first = fleet.channel(Some(&old), address).await.unwrap();
    let second = fleet.channel(Some(&new), address).await.unwrap();
    let (first, second) =
        (within(call(first.clone(), ASK)).await.unwrap(), within(call(second.clone(), ASK)).await.unwrap());
    assert_ne!(first, second, "two serials");
}
