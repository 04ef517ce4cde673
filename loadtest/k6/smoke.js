// Everything once or a few times, over both faces: are the answers right? Says nothing about time.
//
//   k6 run loadtest/k6/smoke.js

import { CORRECT, iterations, scenarios } from './traffic.js';

export const { overGrpc, overHttp } = iterations(1);

export const options = {
  scenarios: scenarios({
    executor: 'per-vu-iterations', vus: 2, iterations: 20, maxDuration: '2m',
  }),
  // Each tenant's hard limit is reached on the way.
  thresholds: { ...CORRECT, tollgate_denied: ['count>0'], tollgate_shed: ['count==0'] },
};
