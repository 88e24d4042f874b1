// Opens a card payload sealed under EV_ECC_v2 as Apple would, and verifies a Mastercard
// TAV as the network would, with Node's own crypto and nothing of mintmark's.
// In (JSON on standard input): leafKey (PEM), tavKey (PEM), ephemeralPublicKey,
// encryptedData, activationData (Base64). Out: payload (text), tav (object), tavSigned
// (text), tavOK (boolean).
'use strict';
const crypto = require('crypto');
const input = JSON.parse(require('fs').readFileSync(0, 'utf8'));

const ephemeral = Buffer.from(input.ephemeralPublicKey, 'base64');
if (ephemeral.length !== 65 || ephemeral[0] !== 4) throw new Error('ephemeralPublicKey is no uncompressed point');
const leaf = crypto.createECDH('prime256v1');
leaf.setPrivateKey(Buffer.from(crypto.createPrivateKey(input.leafKey).export({ format: 'jwk' }).d, 'base64url'));
const z = leaf.computeSecret(ephemeral);
const key = crypto.createHash('sha256')
  .update(Buffer.from([0, 0, 0, 1])).update(z)
  .update(Buffer.from([13])).update('id-aes256-GCM').update('Apple').update(ephemeral)
  .digest();
const sealed = Buffer.from(input.encryptedData, 'base64');
const decipher = crypto.createDecipheriv('aes-256-gcm', key, Buffer.alloc(12));
decipher.setAuthTag(sealed.subarray(sealed.length - 16));
const payload = Buffer.concat([decipher.update(sealed.subarray(0, sealed.length - 16)), decipher.final()]).toString('utf8');

const card = JSON.parse(payload);
const tav = JSON.parse(Buffer.from(input.activationData, 'base64').toString('utf8'));
const values = {
  accountNumber: card.primaryAccountNumber,
  accountExpiry: card.expiration.replace('/', ''),
  dataValidUntilTimestamp: tav.dataValidUntilTimestamp,
};
const signed = tav.includedFieldsInOrder.split('|').map((name) => values[name]).join('|');
const ok = crypto.verify('sha256', Buffer.from(signed, 'utf8'),
  { key: input.tavKey, padding: crypto.constants.RSA_PKCS1_PADDING }, Buffer.from(tav.signature, 'base64'));
process.stdout.write(JSON.stringify({ payload, tav, tavSigned: signed, tavOK: ok }));
