// Encrypts card data as a client would: JWE (RFC 7516), ECDH-ES+A256KW with A256GCM, with
// Node's own crypto and nothing of mintmark's.
// In (JSON on standard input): jwks (the set), cards: an array of {header, plaintext}. alg,
// enc, epk and kid are added to the header. Out: an array of compact serialisations.
'use strict';
const crypto = require('crypto');
const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const jwk = input.jwks.keys.find((k) => k.use === 'enc' && k.alg === 'ECDH-ES+A256KW');
const to = Buffer.concat([Buffer.from([4]), Buffer.from(jwk.x, 'base64url'), Buffer.from(jwk.y, 'base64url')]);
const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b; };

process.stdout.write(JSON.stringify(input.cards.map(({ header, plaintext }) => {
  // Not generateKeyPairSync and export to JWK: Node 20 deadlocks there when its garbage
  // collector takes the one while the other holds the key.
  const pair = crypto.createECDH('prime256v1');
  const point = pair.generateKeys();
  const epk = { kty: 'EC', crv: 'P-256', x: point.toString('base64url', 1, 33), y: point.toString('base64url', 33) };
  const alg = 'ECDH-ES+A256KW';
  const z = pair.computeSecret(to);
  const kek = crypto.createHash('sha256')
    .update(Buffer.concat([u32(1), z, u32(alg.length), Buffer.from(alg), u32(0), u32(0), u32(256)])).digest();
  const cek = crypto.randomBytes(32);
  const wrap = crypto.createCipheriv('id-aes256-wrap', kek, Buffer.alloc(8, 0xa6));
  const wrapped = Buffer.concat([wrap.update(cek), wrap.final()]);
  const protectedHeader = Buffer.from(JSON.stringify({ ...header, alg, enc: 'A256GCM', kid: jwk.kid, epk })).toString('base64url');
  const iv = crypto.randomBytes(12);
  const cipher = crypto.createCipheriv('aes-256-gcm', cek, iv);
  cipher.setAAD(Buffer.from(protectedHeader));
  const body = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final()]);
  return [protectedHeader, ...[wrapped, iv, body, cipher.getAuthTag()].map((b) => b.toString('base64url'))].join('.');
})));
