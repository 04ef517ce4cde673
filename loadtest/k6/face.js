// The two faces of a sidecar, gRPC and HTTP, as one: a call, its status and its message.

import grpc from 'k6/net/grpc';
import http from 'k6/http';

const GRPC = __ENV.GRPC || '127.0.0.1:7421';
const HTTP = __ENV.HTTP || '127.0.0.1:7422';
const TOKEN = __ENV.TOKEN || '';

const SERVICE = 'tollgate.v1.TollgateService';
const HEAD = TOKEN ? { authorization: `Bearer ${TOKEN}` } : {};

// Statuses that the scripts tell apart, by the numbers of google.rpc.Code. k6 has constants of its own:
// objects of its host, which equal no plain number.
const STATUSES = [
  ['OK', 0, grpc.StatusOK],
  ['INVALID_ARGUMENT', 3, grpc.StatusInvalidArgument],
  ['NOT_FOUND', 5, grpc.StatusNotFound],
  ['RESOURCE_EXHAUSTED', 8, grpc.StatusResourceExhausted],
];

// Paths of the calls over HTTP.
const PATHS = {
  Check: '/v1/check',
  CheckBatch: '/v1/check-batch',
  CheckFeature: '/v1/check-feature',
  CheckQuota: '/v1/check-quota',
  CheckRateLimit: '/v1/check-rate-limit',
  RecordUsage: '/v1/usage',
  ReleaseReservation: '/v1/release-reservation',
};

const client = new grpc.Client();
client.load(['../../proto'], 'tollgate/v1/tollgate.proto');
let connected = false;

// Refusals are asked for too; what is wrong is told by the checks.
http.setResponseCallback(null);

function overGrpc(call, request) {
  if (!connected) {
    client.connect(GRPC, { plaintext: true });
    connected = true;
  }
  const answer = client.invoke(`${SERVICE}/${call}`, request, { metadata: HEAD, tags: { call } });
  const known = STATUSES.find(([, , status]) => status === answer.status);
  return { status: known ? known[0] : `gRPC ${answer.status}`, message: answer.message || {} };
}

function overHttp(call, request) {
  const answer = http.post(`http://${HTTP}${PATHS[call]}`, JSON.stringify(request), {
    headers: { ...HEAD, 'content-type': 'application/json' },
    tags: { call, name: PATHS[call] },
  });
  let message = {};
  try {
    message = answer.json();
  } catch (_) {
    return { status: `HTTP ${answer.status}: ${answer.error}`, message };
  }
  // A denial is an answer, whatever its status.
  if (answer.status === 200 || 'allowed' in message) return { status: 'OK', message };
  const known = STATUSES.find(([, code]) => code === message.code);
  return { status: known ? known[0] : `HTTP ${answer.status}`, message };
}

// A call's status and message; `face` is grpc or http.
export function invoke(face, call, request) {
  return face === 'grpc' ? overGrpc(call, request) : overHttp(call, request);
}

// One of the sidecar's own figures, by its name, all its labels together.
export function metric(name) {
  const page = http.get(`http://${HTTP}/metrics`, { headers: HEAD, tags: { name: '/metrics' } });
  const lines = page.body.split('\n').filter((line) => /^[\w:]+/.exec(line)?.[0] === name);
  return lines.reduce((sum, line) => sum + Number(line.split(' ').pop()), 0);
}
