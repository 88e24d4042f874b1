// Plays a device with a pass, and its issuer, against a running server: install, register,
// update, poll, fetch, 304, unregister. It knows the protocol from Apple's documentation
// and shares no code with the server. Reads its instructions as JSON from standard input;
// writes what it saw as JSON to standard output.
'use strict';

const steps = [];
function check(name, ok, detail) {
  steps.push({ name, ok: Boolean(ok), detail: ok ? undefined : detail });
}

async function main(input) {
  const { baseUrl, tenant, type, serial, token, issuerToken, device } = input;
  const web = `${baseUrl}/api/${tenant}/passes/apple/v1`;
  const registration = `${web}/devices/${device}/registrations/${type}/${serial}`;
  const pass = `${web}/passes/${type}/${serial}`;
  const auth = { Authorization: `ApplePass ${token}` };
  const call = async (method, url, headers = {}, body) => {
    const r = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), redirect: 'error' });
    return { status: r.status, headers: r.headers, bytes: Buffer.from(await r.arrayBuffer()) };
  };
  const list = (tag) => call('GET', `${web}/devices/${device}/registrations/${type}${tag === undefined ? '' : `?passesUpdatedSince=${tag}`}`);
  const change = async (value) => call('PUT', `${baseUrl}/api/${tenant}/passes/${type}/${serial}`,
    { Authorization: `Bearer ${issuerToken}`, 'Content-Type': 'application/json' },
    { pass: { storeCard: { primaryFields: [{ key: 'balance', label: 'BALANCE', value, currencyCode: 'EUR' }] } } });

  // Install.
  let r = await call('GET', pass, auth);
  check('install', r.status === 200 && r.headers.get('content-type') === 'application/vnd.apple.pkpass', r.status);
  const first = { pkpass: r.bytes.toString('base64'), modified: r.headers.get('last-modified') };
  check('it says when it was modified', first.modified && new Date(first.modified).toUTCString() === first.modified, first.modified);
  check('nothing is registered', (await list()).status === 204);

  // Register, and again with another push token.
  r = await call('POST', registration, auth, { pushToken: 'aa'.repeat(32) });
  check('register', r.status === 201, r.status);
  r = await call('POST', registration, auth, { pushToken: 'bb'.repeat(32), somethingNew: true });
  check('register again', r.status === 200, r.status);
  r = await call('POST', registration, auth, {});
  check('register without a push token', r.status === 400, r.status);
  r = await call('POST', registration, { Authorization: `ApplePass ${token}x` }, { pushToken: 'aa'.repeat(32) });
  check('register with a wrong token', r.status === 401, r.status);
  r = await call('POST', registration, {}, { pushToken: 'aa'.repeat(32) });
  check('register without a token', r.status === 401, r.status);

  // Poll: everything at first, then nothing until something changes.
  r = await list();
  const all = r.status === 200 ? JSON.parse(r.bytes) : {};
  check('list', r.status === 200 && all.serialNumbers.length === 1 && all.serialNumbers[0] === serial && typeof all.lastUpdated === 'string', r.status);
  check('nothing new', (await list(all.lastUpdated)).status === 204);
  check('a tag of nonsense lists all', (await list('nonsense')).status === 200);

  // Update, and the same once more at once.
  r = await change(50);
  check('issuer changes the pass', r.status === 200, `${r.status} ${r.bytes}`);
  r = await list(all.lastUpdated);
  const second = r.status === 200 ? JSON.parse(r.bytes) : {};
  check('the change is listed', r.status === 200 && second.serialNumbers[0] === serial && second.lastUpdated !== all.lastUpdated, r.status);
  await change(51);
  r = await list(second.lastUpdated);
  check('the next change is listed', r.status === 200, r.status);
  r = await call('GET', pass, { ...auth, 'If-Modified-Since': first.modified });
  check('fetch what changed', r.status === 200, r.status);
  const last = { pkpass: r.bytes.toString('base64'), modified: r.headers.get('last-modified') };
  check('versions are a second apart', new Date(last.modified) - new Date(first.modified) >= 2000, `${first.modified} ${last.modified}`);
  r = await call('GET', pass, { ...auth, 'If-Modified-Since': last.modified });
  check('304', r.status === 304 && r.bytes.length === 0, r.status);
  r = await call('GET', pass, { Authorization: 'ApplePass wrong-wrong-wrong-wrong' });
  check('fetch with a wrong token', r.status === 401, r.status);
  const wrong = r.bytes.toString().replace(/"requestId":"[^"]*"/, '');
  r = await call('GET', `${web}/passes/${type}/there-is-none`, auth);
  check('a pass that there is not answers as a wrong token', r.status === 401 && r.bytes.toString().replace(/"requestId":"[^"]*"/, '') === wrong, r.status);

  // What is not the protocol.
  check('another version', (await call('GET', pass.replace('/v1/', '/v2/'), auth)).status === 404);
  check('another tenant', (await call('GET', pass.replace(`/api/${tenant}/`, '/api/somebody/'), auth)).status === 401);
  check('a manifest as personalization token', (await call('POST', `${pass}/personalize`, {}, { personalizationToken: '{"pass.json":"da39a3ee5e6b4b0d3255bfef95601890afd80709"}', requiredPersonalizationInfo: {} })).status === 400);
  r = await call('POST', `${web}/log`, {}, { logs: [`[2026-11-22 12:00:00 +0000] Register task (for device ${device}, pass type ${type}, serial number ${serial}; with web service url ${baseUrl}) encountered error:\u0007 Unexpected response code 500`] });
  check('log', r.status === 200, r.status);

  // Unregister, and again.
  check('unregister with a wrong token', (await call('DELETE', registration, { Authorization: 'ApplePass wrong' })).status === 401);
  check('unregister', (await call('DELETE', registration, auth)).status === 200);
  check('unregister again', (await call('DELETE', registration, auth)).status === 200);
  check('nothing is registered any more', (await list()).status === 204);
  return { steps, first: first.pkpass, last: last.pkpass };
}

let text = '';
process.stdin.on('data', (chunk) => { text += chunk; });
process.stdin.on('end', () => {
  main(JSON.parse(text)).then((out) => process.stdout.write(JSON.stringify(out)), (err) => {
    process.stderr.write(`${err.stack}\n`);
    process.exit(1);
  });
});
