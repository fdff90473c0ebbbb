//! A broker that goes away in the middle of firing.

use crate::scene::{Scene, alone};
use crate::stage::{await_log, await_not_ready};
use crate::support::broker::Broker;
use crate::support::kms::Kms;

#[test]
fn a_broker_that_stops_and_one_that_crashes_lose_and_double_nothing() {
    let _turn = alone();
    let mut broker = Broker::private();
    let scene = Scene::on(broker.bootstrap(), "outage", 4);
    let settings = scene.settings();
    let mut kms = Kms::start_ready(&settings);
    let traffic = scene.traffic();
    let goes_on = || scene.await_arrivals(scene.arrived().len() + 400);

    goes_on();
    broker.stop();
    broker.restart();
    goes_on();
    broker.kill();
    broker.restart();
    goes_on();

    traffic.stop();
    scene.await_settled(i64::MAX);
    // The same process all along: it recovers by itself.
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
}

#[test]
fn an_instance_that_lost_its_group_to_an_outage_is_not_ready_and_says_why() {
    let _turn = alone();
    let mut broker = Broker::private();
    let scene = Scene::on(broker.bootstrap(), "gone", 2);
    let properties = "session.timeout.ms=2000;heartbeat.interval.ms=500";
    let settings = scene.settings().env("KMS_KAFKA_CONSUMER_PROPERTIES", properties);
    let mut kms = Kms::start_ready(&settings);

    broker.kill();
    await_not_ready(&kms, &["\"joined\":false"]);
    await_log(&kms, &["cannot reach a broker"]);

    broker.restart();
    kms.wait_ready();
}
