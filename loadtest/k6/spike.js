// A gust: from few calls to many within a second, and back. A sidecar may shed what is too much
// (tollgate_shed), but may answer nothing wrong, and must be as quick as before once it is over.
//
//   k6 run -e BASE=20 -e PEAK=500 loadtest/k6/spike.js

import { CORRECT, iterations, scenarios, times } from './traffic.js';

export const { overGrpc, overHttp } = iterations(20);

const BASE = Number(__ENV.BASE || 20);
const PEAK = Number(__ENV.PEAK || 500);

export const options = {
  scenarios: scenarios({
    executor: 'ramping-arrival-rate',
    startRate: BASE,
    timeUnit: '1s',
    preAllocatedVUs: 100,
    maxVUs: 400,
    stages: [
      { duration: '10s', target: BASE },
      { duration: '1s', target: PEAK },
      { duration: '10s', target: PEAK },
      { duration: '1s', target: BASE },
      { duration: '20s', target: BASE },
    ],
  }),
  thresholds: {
    ...CORRECT,
    // The last fifth: the gust was over ten seconds before.
    ...times('phase:last', ['avg<50', 'p(99)<250']),
  },
};
