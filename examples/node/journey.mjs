// The issuer's and the merchant's calls, with Node.js alone: a card brought in encrypted and
// sealed, a merchant token, an Apple proximity token, a pass. Needs Node.js 20 and a development
// server (make run):
//
//	node examples/node/journey.mjs [DIR]   // DIR is the development server's; default .mintmark
import { createCipheriv, createECDH, createHash, createPublicKey, randomBytes, randomUUID, sign, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const dev = JSON.parse(readFileSync(join(process.argv[2] ?? '.mintmark', 'dev.json'), 'utf8'));
const base64url = (value) => Buffer.from(typeof value === 'object' && !Buffer.isBuffer(value) ? JSON.stringify(value) : value).toString('base64url');

// token is a bearer token of a client: a JWT, RS256, of five minutes.
function token(client) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { ...client.claims, iss: client.iss, sub: client.sub, aud: client.aud, jti: randomUUID(), iat: now, exp: now + 300 };
  const input = `${base64url({ alg: 'RS256', typ: 'JWT', kid: client.kid })}.${base64url(claims)}`;
  return `${input}.${sign('sha256', Buffer.from(input), readFileSync(client.keyFile)).toString('base64url')}`;
}

// call gives the answer's body; an error is thrown with the problem's type. 503 says when to
// come again, and such a request may be sent as it was.
async function call(method, path, authorization, body) {
  for (;;) {
    const answer = await fetch(dev.baseUrl + path, {
      method,
      headers: { Authorization: authorization, ...(body && { 'Content-Type': 'application/json' }) },
      body: body && JSON.stringify(body),
    });
    if (answer.ok) return answer;
    const problem = await answer.json();
    if (answer.status !== 503) throw new Error(`${method} ${path}: ${problem.type ?? problem.error}: ${problem.detail ?? ''}`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * Number(answer.headers.get('Retry-After'))));
  }
}

const uint32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b; };

// encryptCard makes the JWE that card data come in as: ECDH-ES+A256KW with A256GCM (RFC 7518,
// 4.6 and 5.3) to the key that the server publishes for it.
function encryptCard(jwk, header, card) {
  const own = createECDH('prime256v1');
  const point = own.generateKeys();
  const shared = own.computeSecret(Buffer.concat([Buffer.from([4]), Buffer.from(jwk.x, 'base64url'), Buffer.from(jwk.y, 'base64url')]));
  const info = [uint32(1), shared, uint32(jwk.alg.length), Buffer.from(jwk.alg), uint32(0), uint32(0), uint32(256)];
  const wrap = createCipheriv('id-aes256-wrap', createHash('sha256').update(Buffer.concat(info)).digest(), Buffer.alloc(8, 0xa6));
  const key = randomBytes(32);
  const wrapped = Buffer.concat([wrap.update(key), wrap.final()]);
  const epk = { kty: 'EC', crv: 'P-256', x: base64url(point.subarray(1, 33)), y: base64url(point.subarray(33)) };
  const head = base64url({ alg: jwk.alg, enc: 'A256GCM', kid: jwk.kid, epk, ...header });
  const iv = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(head));
  const sealed = Buffer.concat([cipher.update(JSON.stringify(card)), cipher.final()]);
  return [head, ...[wrapped, iv, sealed, cipher.getAuthTag()].map(base64url)].join('.');
}

const { issuer, merchant } = dev.clients;
const asIssuer = () => `Bearer ${token(issuer)}`;

console.log('1. A card comes in encrypted');
const { keys } = await (await fetch(`${dev.baseUrl}/.well-known/jwks.json`)).json();
const externalCardId = `example-${randomUUID()}`;
const encryptedCard = encryptCard(keys.find((k) => k.use === 'enc' && k.kty === 'EC'), {
  typ: 'mintmark-card+jwe', tenant: 'dev', iss: issuer.iss, sub: issuer.sub, externalCardId,
  exp: Math.floor(Date.now() / 1000) + 300, jti: randomUUID(),
}, { primaryAccountNumber: '5105105105105100', expiration: '11/39', name: 'Jean Pommier', product: 'mastercard' });
const stored = await (await call('PUT', `/v1/cards/${externalCardId}`, asIssuer(), { encryptedCard })).json();
console.log(`   ${stored.network}, ending in ${stored.last4}`);

console.log('2. It is sealed for Apple Wallet');
const certificate = (path) => readFileSync(path, 'utf8').replace(/-----.*-----|\s/g, '');
const sealed = await (await call('POST', '/issuer/push-provisioning/signed-cards', asIssuer(), {
  externalCardId,
  walletType: 'APPLE_PAY',
  certificates: [certificate(dev.apple.leafCert), certificate(dev.apple.subCert)],
  nonce: randomBytes(4).toString('hex'),
  nonceSignature: `40${randomBytes(80).toString('hex')}`,
})).json();
if (Buffer.from(sealed.ephemeralPublicKey, 'base64').length !== 65) throw new Error('no point of 65 bytes');
console.log(`   ${Buffer.from(sealed.encryptedData, 'base64').length} bytes of encryptedData`);

console.log('3. A merchant JWT, verified with the published key');
const { token: jwt, kid } = await (await call('POST', '/v1/merchant-tokens', asIssuer(), {
  sub: 'merchant-user-17', usr: 'cashier@shop.example', aud: 'mintmark-dev', mbn: 'Corner Shop', mcc: '5411', 'x-tid': '00000001',
})).json();
const [head, claims, signature] = jwt.split('.');
const published = createPublicKey({ key: keys.find((k) => k.kid === kid), format: 'jwk' });
if (!verify('sha256', Buffer.from(`${head}.${claims}`), published, Buffer.from(signature, 'base64url'))) throw new Error('the signature does not hold');
console.log(`   of ${JSON.parse(Buffer.from(claims, 'base64url')).iss}`);

console.log('4. The Apple proximity token of a merchant');
const proximity = await (await call('POST', '/apple/proximity-token', `Bearer ${token(merchant)}`)).json();
console.log(`   ${proximity.jwtId}, until ${proximity.expiresAt}`);

console.log('5. A pass: changed by its issuer, fetched by a phone');
const { tenant, passTypeIdentifier, serialNumber, authenticationToken } = dev.passes;
await call('PUT', `/api/${tenant}/passes/${passTypeIdentifier}/${serialNumber}`, asIssuer(), {
  pass: { storeCard: { primaryFields: [{ key: 'balance', label: 'BALANCE', value: 43, currencyCode: 'EUR' }] } },
});
const pkpass = await call('GET', `/api/${tenant}/passes/apple/v1/passes/${passTypeIdentifier}/${serialNumber}`, `ApplePass ${authenticationToken}`);
const archive = Buffer.from(await pkpass.arrayBuffer());
if (archive.toString('latin1', 0, 2) !== 'PK') throw new Error('no ZIP archive');
console.log(`   ${archive.length} bytes, ${pkpass.headers.get('Content-Type')}`);
