// Opens payloads sealed under EV_ECC_v2 as Apple would, and what is inside and beside them as
// the network would, with Node's own crypto and nothing of mintmark's.
// In (JSON on standard input): leafKey, tavKey, otpKey (PEM), zoneKey (hex), answers: an array
// of {ephemeralPublicKey, encryptedData, activationData} in Base64. Out: an array of
// {payload (text), pan (what the encrypted PAN holds), activation: {kind, ok, text}}.
'use strict';
const crypto = require('crypto');
const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const leaf = crypto.createECDH('prime256v1');
leaf.setPrivateKey(Buffer.from(crypto.createPrivateKey(input.leafKey).export({ format: 'jwk' }).d, 'base64url'));

function open(answer) {
  const ephemeral = Buffer.from(answer.ephemeralPublicKey, 'base64');
  if (ephemeral.length !== 65 || ephemeral[0] !== 4) throw new Error('ephemeralPublicKey is no uncompressed point');
  const key = crypto.createHash('sha256').update(Buffer.from([0, 0, 0, 1])).update(leaf.computeSecret(ephemeral))
    .update(Buffer.from([13])).update('id-aes256-GCM').update('Apple').update(ephemeral).digest();
  const sealed = Buffer.from(answer.encryptedData, 'base64');
  const decipher = crypto.createDecipheriv('aes-256-gcm', key, Buffer.alloc(12));
  decipher.setAuthTag(sealed.subarray(-16));
  return Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]).toString('utf8');
}

// zone decrypts MBPAD-… and MBPAC-… and takes the frame off.
function zone(text, kind) {
  const m = /^(MBP[A-Z]{2})-1-FK-(\d{6}\.\d+)--TDEA-([0-9A-F]+)$/.exec(text);
  if (!m || m[1] !== kind) throw new Error('no ' + kind);
  const d = crypto.createDecipheriv('des-ede3-cbc', Buffer.from(input.zoneKey, 'hex'), Buffer.alloc(8));
  d.setAutoPadding(false);
  const clear = Buffer.concat([d.update(Buffer.from(m[3], 'hex')), d.final()]).toString('latin1');
  const f = /^ {2}[!-~]{4}(\d\d)(.*?)!*$/s.exec(clear);
  if (!f || f[2].length !== Number(f[1])) throw new Error('no frame: ' + clear.length);
  return f[2];
}

function activation(answer, card, pan) {
  const raw = Buffer.from(answer.activationData, 'base64').toString('utf8');
  if (raw.startsWith('{')) {
    const tav = JSON.parse(raw);
    const fromBlock = pan && /^pan=(\d+);expiry=(\d{4});/.exec(pan);
    const values = {
      accountNumber: card.primaryAccountNumber || fromBlock[1],
      accountExpiry: card.expiration ? card.expiration.replace('/', '') : fromBlock[2],
      dataValidUntilTimestamp: tav.dataValidUntilTimestamp,
    };
    const signed = tav.includedFieldsInOrder.split('|').map((name) => values[name]).join('|');
    return { kind: 'tav', text: signed, ok: crypto.verify('sha256', Buffer.from(signed), input.tavKey, Buffer.from(tav.signature, 'base64')) };
  }
  if (raw.startsWith('MBPAC-')) {
    const text = zone(raw, 'MBPAC');
    return { kind: 'visa', text, ok: /^nonce=[0-9a-f]{8};authcode=[A-Z0-9]{6}$/.test(text) };
  }
  const [header, body, signature] = raw.split('.');
  if (JSON.parse(Buffer.from(header, 'base64url')).alg !== 'RS256') throw new Error('alg');
  return {
    kind: 'jws', text: Buffer.from(body, 'base64url').toString('utf8'),
    ok: crypto.verify('sha256', Buffer.from(header + '.' + body), input.otpKey, Buffer.from(signature, 'base64url')),
  };
}

process.stdout.write(JSON.stringify(input.answers.map((answer) => {
  const payload = open(answer);
  const card = JSON.parse(payload);
  const block = card.encryptedPrimaryAccountNumber;
  const pan = block ? zone(Buffer.from(block, 'base64').toString('latin1'), 'MBPAD') : '';
  return { payload, pan, activation: activation(answer, card, pan) };
})));
