//! Envoy's rate limit protocol, through a client generated from Envoy's own types.

use std::time::{Duration, Instant};

use envoy_types::pb::{
    envoy::{
        extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
        service::ratelimit::v3::{
            RateLimitRequest, RateLimitResponse,
            rate_limit_response::{Code::Ok as Fine, Code::OverLimit, rate_limit::Unit},
            rate_limit_service_client::RateLimitServiceClient,
        },
    },
    google::protobuf::UInt64Value,
};
use tokio::task::block_in_place;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use super::cluster::{Cluster, Sidecar};

const CATALOG: &str = r"
catalog: edge
title: Edge
currency: USD
meters:
  - { name: calls, title: Calls, kind: counter, unit: call, period: month }
  - { name: rare, title: Rare, kind: counter, unit: call, period: month }
features:
  - { name: chat }
rates:
  - { name: api }
  - { name: login, subject: address }
operations:
  - { name: chat_query, features: [chat], rates: [api], meters: [{ meter: calls, amount: 2 }] }
envoy:
  - { domain: edge, rate: api }
  - { domain: edge, subject: [remote_address], rate: login }
  - { domain: edge, when: { route: export }, meter: calls }
  - { domain: edge, when: { route: rare }, meter: rare }
  - { domain: edge, when: { route: chat }, operation: chat_query }
plans:
  - name: basic
    title: Basic
    prices: { monthly: 0 }
    limits: { calls: 10 }
    features: { chat: true }
    rate_limits:
      api: [{ requests: 5, per: hour }]
      login: [{ requests: 2, per: hour }]
";

type Client = RateLimitServiceClient<Channel>;

/// Longest that a tenant's rates may be out of reach at the start, on a busy machine.
const START_MAX: Duration = Duration::from_secs(20);

async fn edge() -> (Cluster, Sidecar, Client) {
    let cluster = Cluster::with_catalog("edge", CATALOG).await;
    for tenant in ["acme", "globex"] {
        cluster.world.tenant(tenant, "basic").await;
    }
    let sidecar = cluster.start("a").await;
    let client = RateLimitServiceClient::new(connect(&cluster, "a").await);
    (cluster, sidecar, client)
}

async fn connect(cluster: &Cluster, name: &str) -> Channel {
    let address = cluster.address(name, "grpc");
    Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry =
        |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..Default::default() }
}

fn with_hits(hits: u64, entries: &[(&str, &str)]) -> RateLimitDescriptor {
    RateLimitDescriptor { hits_addend: Some(UInt64Value { value: hits }), ..descriptor(entries) }
}

async fn ask(
    client: &mut Client,
    hits_addend: u32,
    descriptors: &[RateLimitDescriptor],
) -> Result<RateLimitResponse, Status> {
    let descriptors = descriptors.to_vec();
    let request = RateLimitRequest { domain: "edge".into(), descriptors, hits_addend };
    Ok(client.should_rate_limit(request).await?.into_inner())
}

/// `(is over, remaining)` of the one descriptor.
async fn one(client: &mut Client, hits: u32, descriptor: RateLimitDescriptor) -> (bool, u32) {
    let answer = ask(client, hits, &[descriptor]).await.unwrap();
    let [status] = answer.statuses.as_slice() else { panic!("{answer:?}") };
    assert_eq!(status.code(), answer.overall_code());
    (status.code() == OverLimit, status.limit_remaining)
}

fn header<'a>(answer: &'a RateLimitResponse, name: &str) -> Option<&'a str> {
    let mut headers = answer.response_headers_to_add.iter();
    headers.find(|header| header.key == name).map(|header| header.value.as_str())
}

/// Waits until the shared rates are in reach, by a look that takes nothing.
async fn until_shared(client: &mut Client) {
    let began = Instant::now();
    let look = || with_hits(0, &[("tenant", "acme")]);
    while one(client, 0, look()).await != (false, 5) {
        assert!(began.elapsed() < START_MAX, "the rates are not in reach");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_take_from_the_tenants_rates_and_an_explicit_zero_only_looks() {
    let (_cluster, sidecar, mut client) = edge().await;
    until_shared(&mut client).await;
    let acme = || descriptor(&[("tenant", "acme")]);
    // A request that says nothing hits once; 0 is nothing said.
    assert_eq!(one(&mut client, 0, acme()).await, (false, 4));
    assert_eq!(one(&mut client, 2, acme()).await, (false, 2));
    // The descriptor's own word comes first.
    assert_eq!(one(&mut client, 9, with_hits(1, &[("tenant", "acme")])).await, (false, 1));
    for _ in 0..3 {
        assert_eq!(one(&mut client, 1, with_hits(0, &[("tenant", "acme")])).await, (false, 1));
    }
    assert_eq!(one(&mut client, 2, acme()).await, (true, 1));
    assert_eq!(one(&mut client, 1, acme()).await, (false, 0));

    let answer = ask(&mut client, 1, &[acme()]).await.unwrap();
    assert_eq!(answer.overall_code(), OverLimit);
    let status = &answer.statuses[0];
    let limit = status.current_limit.as_ref().unwrap();
    assert_eq!((limit.name.as_str(), limit.requests_per_unit), ("api", 5));
    assert_eq!(limit.unit(), Unit::Hour);
    let reset_s = status.duration_until_reset.unwrap().seconds;
    assert!((3_500..=3_600).contains(&reset_s), "{reset_s} s until all is free again");
    assert_eq!(header(&answer, "ratelimit-policy"), Some("\"api\";q=5;w=3600"));
    let told = header(&answer, "ratelimit").unwrap();
    assert!(told.starts_with("\"api\";r=0;t=3"), "{told}");
    let retry_s: u64 = header(&answer, "retry-after").unwrap().parse().unwrap();
    assert!((600..=720).contains(&retry_s), "{retry_s} s until one of five an hour is free");

    // Another tenant has its own; the subjects of a rate have theirs.
    assert_eq!(one(&mut client, 1, descriptor(&[("tenant", "globex")])).await, (false, 4));
    let from = |address| descriptor(&[("remote_address", address), ("tenant", "acme")]);
    for address in ["10.0.0.1", "a strange one; it has to be told from others all the same"] {
        assert_eq!(one(&mut client, 2, from(address)).await, (false, 0));
        assert_eq!(one(&mut client, 1, from(address)).await, (true, 0));
    }
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_descriptor_is_decided_by_itself_and_one_that_is_not_mapped_is_fine() {
    let (_cluster, sidecar, mut client) = edge().await;
    until_shared(&mut client).await;
    let export = || descriptor(&[("tenant", "acme"), ("route", "export")]);
    let unmapped = [
        descriptor(&[("tenant", "acme"), ("method", "GET")]),
        descriptor(&[("route", "export")]),
        descriptor(&[]),
    ];
    let descriptors = [&unmapped[..], &[with_hits(9, &[("tenant", "acme")]), export()]].concat();
    let answer = ask(&mut client, 4, &descriptors).await.unwrap();
    assert_eq!(answer.overall_code(), OverLimit);
    let codes: Vec<_> = answer.statuses.iter().map(|status| status.code()).collect();
    assert_eq!(codes, [Fine, Fine, Fine, OverLimit, Fine]);
    assert!(answer.statuses[..3].iter().all(|status| status.current_limit.is_none()));
    // The quota was taken though the rate denied: 4 of 10.
    let quota = answer.statuses[4].current_limit.as_ref().unwrap();
    assert_eq!((quota.name.as_str(), quota.requests_per_unit), ("calls", 10));
    assert_eq!(answer.statuses[4].limit_remaining, 6);
    assert_eq!(one(&mut client, 7, export()).await, (true, 6));
    let look = with_hits(0, &[("tenant", "acme"), ("route", "export")]);
    assert_eq!(one(&mut client, 0, look).await, (false, 6));
    // What the plan does not have is denied, and so is who is not a tenant.
    let rare = descriptor(&[("tenant", "acme"), ("route", "rare")]);
    assert!(one(&mut client, 1, rare).await.0);
    for nobody in ["nobody", "not an id"] {
        assert!(one(&mut client, 1, descriptor(&[("tenant", nobody)])).await.0, "{nobody}");
    }
    // Another domain asks nothing of this catalog.
    let request = RateLimitRequest {
        domain: "mesh".into(),
        descriptors: vec![with_hits(9, &[("tenant", "acme")])],
        hits_addend: 0,
    };
    let answer = client.should_rate_limit(request).await.unwrap().into_inner();
    assert_eq!((answer.overall_code(), answer.statuses.len()), (Fine, 1));

    let negative = RateLimitDescriptor { is_negative_hits: true, ..export() };
    for wrong in [vec![], vec![negative]] {
        let refused = ask(&mut client, 1, &wrong).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_is_all_or_nothing() {
    let (_cluster, sidecar, mut client) = edge().await;
    until_shared(&mut client).await;
    let chat = || descriptor(&[("tenant", "acme"), ("route", "chat")]);
    // Two calls each of ten, and five an hour: both end together.
    for _ in 0..5 {
        assert!(!one(&mut client, 0, chat()).await.0);
    }
    assert!(one(&mut client, 0, chat()).await.0);
    let look = with_hits(0, &[("tenant", "acme"), ("route", "export")]);
    assert_eq!(one(&mut client, 0, look).await, (true, 0));
    sidecar.process.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_a_token_for_the_tenant_may_ask_and_trouble_is_unavailable() {
    let (mut cluster, mut postgres) = Cluster::with_own_postgres("edge", CATALOG).await;
    for tenant in ["acme", "globex", "initech"] {
        cluster.world.tenant(tenant, "basic").await;
    }
    cluster.with_tokens();
    let sidecar = cluster.start("a").await;
    let acme = cluster.token("acme-edge", &["--tenant", "acme"]);
    let viewer = cluster.token("looks", &["--role", "viewer"]);
    let channel = connect(&cluster, "a").await;
    let ask = async |token: Option<&str>, descriptor: RateLimitDescriptor| {
        let (domain, descriptors) = ("edge".to_owned(), vec![descriptor]);
        let mut request = Request::new(RateLimitRequest { domain, descriptors, hits_addend: 0 });
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", bearer);
        }
        let answer = Client::new(channel.clone()).should_rate_limit(request).await;
        answer.map_or_else(|status| status.code(), |_| Code::Ok)
    };
    let of = |tenant| descriptor(&[("tenant", tenant)]);
    let began = Instant::now();
    while ask(Some(&viewer), with_hits(0, &[("tenant", "acme")])).await != Code::Ok {
        assert!(began.elapsed() < START_MAX, "the token is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask(None, of("acme")).await, Code::Unauthenticated);
    assert_eq!(ask(Some("tg_wrong"), of("acme")).await, Code::Unauthenticated);
    assert_eq!(ask(Some(&acme), of("acme")).await, Code::Ok);
    assert_eq!(ask(Some(&acme), of("globex")).await, Code::PermissionDenied);
    assert_eq!(ask(Some(&viewer), of("globex")).await, Code::PermissionDenied);
    assert_eq!(ask(Some(&viewer), with_hits(0, &[("tenant", "globex")])).await, Code::Ok);

    block_in_place(|| postgres.stop()).unwrap();
    let not_known_yet = with_hits(0, &[("tenant", "initech")]);
    assert_eq!(ask(Some(&viewer), not_known_yet).await, Code::Unavailable);
    assert_eq!(ask(Some(&viewer), with_hits(0, &[("tenant", "globex")])).await, Code::Ok);
    sidecar.process.kill();
}
