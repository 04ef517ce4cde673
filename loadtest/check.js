// Loads a sidecar over gRPC with k6, and checks that its answers are right while it is loaded.
//
//   k6 run loadtest/check.js
//   k6 run -e TARGET=127.0.0.1:7421 -e VUS=20 -e DURATION=30s loadtest/check.js
//
// The sidecar serves loadtest/catalog.yaml (README.md says how). Any wrong answer fails the run.

import { check } from 'k6';
import grpc from 'k6/net/grpc';
import { Counter } from 'k6/metrics';

const TARGET = __ENV.TARGET || '127.0.0.1:7421';
const METER = __ENV.METER || 'tokens';
const TENANTS = Number(__ENV.TENANTS || 16);
const TENANT_PREFIX = __ENV.TENANT_PREFIX || 'load-';
// A do-nothing server answers every check in the same way: only the transport can be checked.
const CHECK_ANSWERS = __ENV.CHECK_ANSWERS !== 'false';

const SERVICE = 'tollgate.v1.TollgateService';
// k6's own constants: a status is an object of its host and equals no plain number.
const OK = grpc.StatusOK;
const INVALID_ARGUMENT = grpc.StatusInvalidArgument;
const NOT_FOUND = grpc.StatusNotFound;

const client = new grpc.Client();
client.load(['../proto'], 'tollgate/v1/tollgate.proto');

// Base units that were admitted and recorded; the ledger must come to show as many.
const consumed = new Counter('tollgate_consumed');
const recorded = new Counter('tollgate_recorded');

export const options = {
  vus: Number(__ENV.VUS || 10),
  duration: __ENV.DURATION || '10s',
  thresholds: {
    // Correctness: not one wrong answer, and some right ones.
    checks: ['rate==1'],
    tollgate_consumed: ['count>0'],
    tollgate_recorded: ['count>0'],
    // The requirements' floor: a check takes less than 50 ms on average.
    'grpc_req_duration{call:CheckQuota}': ['avg<50', 'p(99)<250'],
    'grpc_req_duration{call:RecordUsage}': ['p(99)<500'],
  },
};

let connected = false;
// What this VU's tenant had used at the last answer. Others use it too, so that it only grows.
let usedBefore = 0;

export default function () {
  if (!connected) {
    client.connect(TARGET, { plaintext: true });
    connected = true;
  }
  const tenant = `${TENANT_PREFIX}${(__VU - 1) % TENANTS}`;
  const key = `k6-${Date.now()}-${__VU}-${__ITER}`;

  looks(tenant);
  consumes(tenant, key);
  records(tenant, key);
  if (CHECK_ANSWERS && __ITER % 20 === 0) {
    reserves(tenant, key);
    refuses(tenant);
  }
}

// CHECK looks and takes nothing.
function looks(tenant) {
  const answer = checkQuota({ tenant, meter: METER, amount: 1, mode: 'MODE_CHECK' });
  check(answer, {
    'CHECK is answered': (it) => it.status === OK,
    'CHECK allows': (it) => it.status === OK && it.message.allowed,
  });
}

// CONSUME takes, and the same key again is told the same and takes nothing.
function consumes(tenant, key) {
  const amount = 1 + (__ITER % 50);
  const request = {
    tenant, meter: METER, amount, mode: 'MODE_CONSUME', idempotencyKey: `${key}-c`,
  };
  const answer = checkQuota(request);
  check(answer, {
    'CONSUME is answered': (it) => it.status === OK,
    'CONSUME allows': (it) => it.status === OK && it.message.allowed,
  });
  if (answer.status !== OK || !answer.message.allowed) return;
  consumed.add(amount);
  if (!CHECK_ANSWERS) return;
  const { used, limit, remaining } = numbers(answer.message);
  check(answer, {
    'used grows by what is taken': () => used >= usedBefore + amount,
    'used and remaining fit the limit': () => limit === -1 || used + remaining <= limit,
  });
  usedBefore = used;
  const again = checkQuota(request);
  check(again, {
    'a repeat gets the first answer': (it) =>
      it.status === OK && it.message.allowed && it.message.decidedBy === 'DECIDED_BY_REPLAY',
  });
}

// A batch is acknowledged whole, and its repeat is known.
function records(tenant, key) {
  const events = [];
  for (let place = 0; place < 10; place += 1) {
    events.push({ tenant, meter: METER, amount: 1, idempotencyKey: `${key}-r${place}` });
  }
  const answer = invoke('RecordUsage', { events });
  check(answer, {
    'a batch is acknowledged whole': (it) =>
      it.status === OK && Number(it.message.accepted) === events.length,
  });
  if (answer.status === OK) recorded.add(events.length);
}

// A hold is settled by the usage that names it, and another is given back.
function reserves(tenant, key) {
  const hold = (name) => checkQuota({
    tenant, meter: METER, amount: 100, mode: 'MODE_RESERVE', idempotencyKey: `${key}-${name}`,
  });
  const settled = hold('h1');
  check(settled, { 'RESERVE holds': (it) => it.status === OK && !!it.message.reservation });
  const released = hold('h2');
  check(released, { 'RESERVE holds': (it) => it.status === OK && !!it.message.reservation });
  if (settled.status !== OK || released.status !== OK) return;
  const usage = {
    tenant, meter: METER, amount: 60, idempotencyKey: `${key}-s`,
    reservationId: settled.message.reservation.id,
  };
  const settlement = invoke('RecordUsage', { events: [usage] });
  check(settlement, { 'a hold is settled': (it) => it.status === OK });
  if (settlement.status === OK) recorded.add(60);
  const release = invoke('ReleaseReservation', {
    tenant, reservationId: released.message.reservation.id,
  });
  check(release, {
    'a hold is given back': (it) => it.status === OK && Number(it.message.released) === 100,
  });
}

// What cannot be accepted is refused with the right status.
function refuses(tenant) {
  const status = (request) => checkQuota(request).status;
  check(null, {
    'a missing mode is INVALID_ARGUMENT': () =>
      status({ tenant, meter: METER, amount: 1 }) === INVALID_ARGUMENT,
    'a missing amount is INVALID_ARGUMENT': () =>
      status({ tenant, meter: METER, mode: 'MODE_CHECK' }) === INVALID_ARGUMENT,
    'an unknown meter is NOT_FOUND': () =>
      status({ tenant, meter: 'no_such_meter', amount: 1, mode: 'MODE_CHECK' }) === NOT_FOUND,
    'an unknown tenant is NOT_FOUND': () =>
      status({ tenant: 'nobody', meter: METER, amount: 1, mode: 'MODE_CHECK' }) === NOT_FOUND,
  });
}

function checkQuota(request) {
  return invoke('CheckQuota', request);
}

function invoke(call, request) {
  return client.invoke(`${SERVICE}/${call}`, request, { tags: { call } });
}

// 64-bit numbers are strings in JSON, and absent when 0.
function numbers(message) {
  return {
    limit: Number(message.limit || 0),
    used: Number(message.used || 0),
    remaining: Number(message.remaining || 0),
  };
}
