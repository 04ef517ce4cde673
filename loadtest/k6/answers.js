// What is asked of a sidecar that serves loadtest/catalog.yaml, and what its answers must be.

import { check } from 'k6';
import { Counter } from 'k6/metrics';

import { invoke } from './face.js';

const METER = 'tokens';
// Of `scarce`, by loadtest/catalog.yaml.
const SCARCE_MAX = 100;

// Base units that were admitted and recorded; the ledger must come to show as many.
export const consumed = new Counter('tollgate_consumed');
export const recorded = new Counter('tollgate_recorded');
// CONSUMEs of what is scarce that did not fit.
export const denied = new Counter('tollgate_denied');
// Calls that were refused because the sidecar had too many at a time.
export const shed = new Counter('tollgate_shed');

// What each tenant had used at this VU's last answer. Others use it too, so that it only grows.
const usedBefore = {};

// Whether it was answered. What is shed under load is no wrong answer: nothing was counted.
function isAnswered(answer, what) {
  if (answer.status === 'RESOURCE_EXHAUSTED') {
    shed.add(1);
    return false;
  }
  return check(answer, { [`${what} is answered`]: (it) => it.status === 'OK' });
}

// CHECK looks and takes nothing.
export function looks(face, tenant) {
  const answer = quota(face, { tenant, meter: METER, amount: 1, mode: 'MODE_CHECK' });
  if (!isAnswered(answer, 'CHECK')) return;
  check(answer.message, { 'CHECK allows': (it) => it.allowed });
}

// CONSUME takes, and the same key again is told the same and takes nothing.
export function consumes(face, tenant, key) {
  const amount = 1 + (__ITER % 50);
  const request = {
    tenant, meter: METER, amount, mode: 'MODE_CONSUME', idempotencyKey: `${key}-c`,
  };
  const answer = quota(face, request);
  if (!isAnswered(answer, 'CONSUME')) return;
  if (!check(answer.message, { 'CONSUME allows': (it) => it.allowed })) return;
  consumed.add(amount);
  const { used, limit, remaining } = numbers(answer.message);
  check(null, {
    'used grows by what is taken': () => used >= (usedBefore[tenant] || 0) + amount,
    'used and remaining fit the limit': () => limit === -1 || used + remaining <= limit,
  });
  usedBefore[tenant] = used;
  const again = quota(face, request);
  if (!isAnswered(again, 'a repeat')) return;
  check(again.message, {
    'a repeat gets the first answer': (it) => it.allowed && it.decidedBy === 'DECIDED_BY_REPLAY',
  });
}

// A batch is acknowledged whole.
export function records(face, tenant, key) {
  const events = [];
  for (let place = 0; place < 10; place += 1) {
    events.push({ tenant, meter: METER, amount: 1, idempotencyKey: `${key}-r${place}` });
  }
  const answer = invoke(face, 'RecordUsage', { events });
  if (!isAnswered(answer, 'RecordUsage')) return;
  check(answer.message, {
    'a batch is acknowledged whole': (it) => Number(it.accepted) === events.length,
  });
  recorded.add(events.length);
}

// A feature, a rate, an operation over both and two meters, and some of it in one call.
export function decides(face, tenant) {
  const feature = invoke(face, 'CheckFeature', { tenant, feature: 'chat' });
  if (isAnswered(feature, 'CheckFeature')) {
    check(feature.message, { 'a feature is there': (it) => it.feature.enabled });
  }
  const rate = invoke(face, 'CheckRateLimit', { tenant, rateLimit: 'api', mode: 'MODE_CONSUME' });
  if (isAnswered(rate, 'CheckRateLimit')) {
    check(rate.message, { 'a rate allows': (it) => it.allowed });
  }
  const operation = { tenant, operation: 'chat_query', mode: 'MODE_CHECK' };
  const whole = invoke(face, 'Check', operation);
  if (isAnswered(whole, 'Check')) {
    check(whole.message, { 'an operation is allowed': (it) => it.allowed });
  }
  const unknown = { tenant, meter: 'no_such_meter', amount: 1, mode: 'MODE_CHECK' };
  const batch = invoke(face, 'CheckBatch', {
    checks: [{ operation }, { quota: unknown }, { feature: { tenant, feature: 'chat' } }],
  });
  if (isAnswered(batch, 'CheckBatch')) {
    check(batch.message.results, {
      'a batch answers each check by itself': ([first, second, third]) =>
        first.operation.allowed && !!second.error && third.feature.feature.enabled,
    });
  }
}

// A hold is settled by the usage that names it, and another is given back.
export function reserves(face, tenant, key) {
  const hold = (name) => quota(face, {
    tenant, meter: METER, amount: 100, mode: 'MODE_RESERVE', idempotencyKey: `${key}-${name}`,
  });
  const [settled, released] = [hold('h1'), hold('h2')];
  if (!isAnswered(settled, 'RESERVE') || !isAnswered(released, 'RESERVE')) return;
  const holds = check(null, {
    'RESERVE holds': () => !!settled.message.reservation && !!released.message.reservation,
  });
  if (!holds) return;
  const usage = {
    tenant, meter: METER, amount: 60, idempotencyKey: `${key}-s`,
    reservationId: settled.message.reservation.id,
  };
  const settlement = invoke(face, 'RecordUsage', { events: [usage] });
  if (isAnswered(settlement, 'a settlement')) {
    check(settlement.message, {
      'a hold is settled': (it) => Number(it.accepted) === 1 && !Number(it.late || 0),
    });
    recorded.add(60);
  }
  const release = invoke(face, 'ReleaseReservation', {
    tenant, reservationId: released.message.reservation.id,
  });
  if (isAnswered(release, 'a release')) {
    check(release.message, { 'a hold is given back': (it) => Number(it.released) === 100 });
  }
}

// What cannot be accepted is refused with the right status.
export function refuses(face, tenant) {
  const status = (request) => quota(face, request).status;
  check(null, {
    'a missing mode is INVALID_ARGUMENT': () =>
      status({ tenant, meter: METER, amount: 1 }) === 'INVALID_ARGUMENT',
    'a missing amount is INVALID_ARGUMENT': () =>
      status({ tenant, meter: METER, mode: 'MODE_CHECK' }) === 'INVALID_ARGUMENT',
    'an unknown meter is NOT_FOUND': () =>
      status({ tenant, meter: 'no_such_meter', amount: 1, mode: 'MODE_CHECK' }) === 'NOT_FOUND',
    'an unknown tenant is NOT_FOUND': () =>
      status({ tenant: 'nobody', meter: METER, amount: 1, mode: 'MODE_CHECK' }) === 'NOT_FOUND',
  });
}

// A hard limit is reached, and never passed.
export function exhausts(face, tenant) {
  const answer = quota(face, { tenant, meter: 'scarce', amount: 7, mode: 'MODE_CONSUME' });
  if (!isAnswered(answer, 'CONSUME of what is scarce')) return;
  const { used } = numbers(answer.message);
  denied.add(answer.message.allowed ? 0 : 1);
  check(answer.message, {
    'a hard limit is not passed': () => used <= SCARCE_MAX,
    'what does not fit is denied, with the reason': (it) =>
      it.allowed || it.reason === 'QUOTA_REASON_LIMIT_EXCEEDED',
    'what fits is allowed': (it) => it.allowed || used + 7 > SCARCE_MAX,
  });
}

function quota(face, request) {
  return invoke(face, 'CheckQuota', request);
}

// 64-bit numbers are text in JSON, and absent when 0.
function numbers(message) {
  return {
    limit: Number(message.limit || 0),
    used: Number(message.used || 0),
    remaining: Number(message.remaining || 0),
  };
}
