// A steady load, sent whether earlier calls are answered or not: are answers right, and in time?
//
//   k6 run -e RATE=100 -e DURATION=1m loadtest/k6/load.js

import { CORRECT, iterations, scenarios, times } from './traffic.js';

export const { overGrpc, overHttp } = iterations(20);

export const options = {
  scenarios: scenarios({
    executor: 'constant-arrival-rate',
    // Iterations a second over each face; one is four calls and a bit.
    rate: Number(__ENV.RATE || 100),
    timeUnit: '1s',
    duration: __ENV.DURATION || '1m',
    preAllocatedVUs: 50,
    maxVUs: 200,
  }),
  thresholds: {
    ...CORRECT,
    tollgate_shed: ['count==0'],
    // The requirements' floor: a check takes less than 50 ms on average.
    ...times('call:CheckQuota', ['avg<50', 'p(99)<250']),
    ...times('call:RecordUsage', ['p(99)<500']),
    // Of those that were due. More means that nobody was free to send them: latency was high.
    dropped_iterations: ['rate<1'],
  },
};
