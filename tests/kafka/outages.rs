//! A broker that goes away in the middle of firing.

use crate::scene::{Scene, alone};
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
