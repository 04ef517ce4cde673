// Evaluates flags with OpenFeature's two providers for OFREP: that of servers, which asks for each,
// and that of web pages, which asks for all and then only for changes.
//
//     evaluate_flags.cjs JOB
//
// JOB is a JSON file: url, token (may be null), tenants, flags. Prints JSON: by tenant, each flag's
// boolean value, from either provider; and what they make of what there is not.

const { readFileSync } = require('node:fs');
const { OpenFeature: Server } = require('@openfeature/server-sdk');
const { OpenFeature: Web } = require('@openfeature/web-sdk');
const { OFREPProvider } = require('@openfeature/ofrep-provider');
const { OFREPWebProvider } = require('@openfeature/ofrep-web-provider');

const job = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const headers = job.token ? [['authorization', `Bearer ${job.token}`]] : [];

/// The value, if it is none that stands in for one after an error.
function valueOf(details) {
  if (details.errorCode) throw new Error(JSON.stringify(details));
  return details.value;
}

async function asServer() {
  await Server.setProviderAndWait(new OFREPProvider({ baseUrl: job.url, headers }));
  const client = Server.getClient();
  const evaluate = (flag, context, fallback = false) =>
    client.getBooleanDetails(flag, fallback, context);
  const values = {};
  for (const targetingKey of job.tenants) {
    values[targetingKey] = {};
    for (const flag of job.flags) {
      values[targetingKey][flag] = valueOf(await evaluate(flag, { targetingKey }));
    }
  }
  const [flag, targetingKey] = [job.flags[0], job.tenants[0]];
  return {
    values,
    no_flag: (await evaluate('no_such_flag', { targetingKey }, true)).errorCode,
    no_tenant: (await evaluate(flag, { targetingKey: 'no-such-tenant' })).errorCode,
    no_key: (await evaluate(flag, {})).errorCode,
  };
}

async function asPage() {
  const statuses = [];
  const fetchImplementation = async (...request) => {
    const answer = await fetch(...request);
    statuses.push(answer.status);
    return answer;
  };
  const values = {};
  for (const targetingKey of job.tenants) {
    await Web.setContext({ targetingKey });
    const provider = new OFREPWebProvider({
      baseUrl: job.url,
      headers,
      fetchImplementation,
      pollInterval: 100,
    });
    await Web.setProviderAndWait(provider);
    const client = Web.getClient();
    values[targetingKey] = Object.fromEntries(
      job.flags.map((flag) => [flag, valueOf(client.getBooleanDetails(flag, false))]),
    );
  }
  const wanted = Date.now() + 30_000;
  while (!statuses.includes(304) && Date.now() < wanted) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await Web.close();
  return { values, statuses: [...new Set(statuses)] };
}

(async () => {
  const told = { server: await asServer(), page: await asPage() };
  console.log(JSON.stringify(told));
  process.exit(0);
})();
