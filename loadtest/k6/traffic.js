// What the scripts have in common: an iteration over one face, and the scenarios that make it.

import exec from 'k6/execution';

import * as answers from './answers.js';

const FACES = (__ENV.FACES || 'grpc,http').split(',');
const TENANTS = Number(__ENV.TENANTS || 16);
const TENANT_PREFIX = __ENV.TENANT_PREFIX || 'load-';

// What a script exports, for its scenarios to name: an iteration over each face, with all that costs
// more calls than it tells in one of so many.
export function iterations(rareEvery) {
  return { overGrpc: () => iterate('grpc', rareEvery), overHttp: () => iterate('http', rareEvery) };
}

function iterate(face, rareEvery) {
  const tenant = `${TENANT_PREFIX}${(__VU - 1) % TENANTS}`;
  const key = `k6-${Date.now()}-${__VU}-${__ITER}`;
  if (exec.scenario.progress > 0.8) exec.vu.metrics.tags.phase = 'last';
  answers.looks(face, tenant);
  answers.consumes(face, tenant, key);
  answers.records(face, tenant, key);
  if (__ITER % rareEvery === 0) {
    answers.decides(face, tenant);
    answers.reserves(face, tenant, key);
    answers.refuses(face, tenant);
    answers.exhausts(face, tenant);
  }
}

// One scenario of this shape for each face.
export function scenarios(shape) {
  const names = { grpc: 'overGrpc', http: 'overHttp' };
  const scenario = (face) => ({ ...shape, exec: names[face], tags: { face } });
  return Object.fromEntries(FACES.map((face) => [face, scenario(face)]));
}

// Correctness, for every script: not one wrong answer, and some right ones.
export const CORRECT = {
  checks: ['rate==1'],
  tollgate_consumed: ['count>0'],
  tollgate_recorded: ['count>0'],
};

// The same bounds of time for each face's calls that have these tags (`call:CheckQuota`).
export function times(tags, bounds) {
  return Object.fromEntries(FACES.map((face) => [`${face}_req_duration{${tags}}`, bounds]));
}
