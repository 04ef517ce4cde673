// A moderate load for long: are the last answers as right and as quick as the first, and does the
// sidecar's memory stay within what it may remember?
//
//   k6 run -e DURATION=2h loadtest/k6/soak.js

import { check } from 'k6';

import { metric } from './face.js';
import { CORRECT, iterations, scenarios, times } from './traffic.js';

export const { overGrpc, overHttp } = iterations(20);

// What memory may grow by. Every key that a call brings is remembered, up to a bound of the
// sidecar's (`enforcement.repeats_max`), so that memory grows until that is reached.
const GROWTH_MAX_MIB = Number(__ENV.GROWTH_MAX_MIB || 512);

export const options = {
  scenarios: scenarios({
    executor: 'constant-arrival-rate',
    rate: Number(__ENV.RATE || 40),
    timeUnit: '1s',
    duration: __ENV.DURATION || '30m',
    preAllocatedVUs: 20,
    maxVUs: 100,
  }),
  thresholds: {
    ...CORRECT,
    tollgate_shed: ['count==0'],
    ...times('call:CheckQuota', ['avg<50', 'p(99)<250']),
    // The last fifth.
    ...times('phase:last', ['avg<50', 'p(99)<250']),
    dropped_iterations: ['rate<1'],
  },
};

export function setup() {
  return { residentMib: residentMib() };
}

export function teardown(before) {
  const grown = residentMib() - before.residentMib;
  console.log(`memory has grown by ${grown.toFixed(1)} MiB, to ${residentMib().toFixed(1)} MiB`);
  check(grown, { 'memory stays within its bounds': () => grown < GROWTH_MAX_MIB });
}

function residentMib() {
  return metric('process_resident_memory_bytes') / (1 << 20);
}
