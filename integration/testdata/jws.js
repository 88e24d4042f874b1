// Verifies JWS in the compact serialisation against a JWK set, with Node's own crypto and
// nothing of mintmark's. The key decides the algorithm, and kid the key.
// In (JSON on standard input): jwks (a JWK set), tokens (array of text). Out: an array of
// {ok, header, payload}, in the order of the tokens; header and payload are JSON text as
// it was signed.
'use strict';
const crypto = require('crypto');
const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));

const keys = new Map(input.jwks.keys.map((jwk) => [jwk.kid, { alg: jwk.alg, key: crypto.createPublicKey({ key: jwk, format: 'jwk' }) }]));

function verify(token) {
  const [header, payload, signature, ...rest] = token.split('.');
  const text = (segment) => Buffer.from(segment, 'base64url').toString('utf8');
  const head = JSON.parse(text(header));
  const known = keys.get(head.kid);
  if (rest.length !== 0 || known === undefined || head.alg !== known.alg) return { ok: false };
  const options = { RS256: { padding: crypto.constants.RSA_PKCS1_PADDING }, ES256: { dsaEncoding: 'ieee-p1363' } }[known.alg];
  const ok = crypto.verify('sha256', Buffer.from(`${header}.${payload}`, 'ascii'),
    { key: known.key, ...options }, Buffer.from(signature, 'base64url'));
  return { ok, header: text(header), payload: text(payload) };
}

process.stdout.write(JSON.stringify(input.tokens.map(verify)));
