// Reads and writes JOSE with npm's `jose`, which shares no code with the gateway, cryptography or joserfc.
//
//   node node_jose.mjs < QUESTIONS
//
// QUESTIONS is a JSON list of objects; `do` names one of the functions below, the other members are its arguments. The
// answer is a list of the same length: what was asked for, or {"refused": code} where jose refuses. Octets are base64url.
// Anything else that goes wrong ends the program with an error.
import { hkdfSync, webcrypto } from 'node:crypto';

globalThis.crypto ??= webcrypto; // Node 18 keeps it elsewhere
const jose = await import('jose');

const { encode } = jose.base64url;
const decode = (text) => jose.base64url.decode(text);
const SIGNING = { algorithms: ['ES512'] };
const CONTENT = { contentEncryptionAlgorithms: ['A256CBC-HS512'] };

/** The content key of a document, as docs/envelope.md (section 6) gives it. */
function documentKey({ session_key, salt, kind, run_id }) {
  const info = Buffer.from(`GVE1 document\0${kind}\0${run_id}`);
  return new Uint8Array(hkdfSync('sha512', decode(session_key), decode(salt), info, 64));
}

const asked = {
  async thumbprint({ jwk }) {
    return { kid: await jose.calculateJwkThumbprint(jwk, 'sha256') };
  },

  async key({ alg }) {
    const pair = await jose.generateKeyPair(alg, { crv: 'P-521', extractable: true });
    return { public: await jose.exportJWK(pair.publicKey), private: await jose.exportJWK(pair.privateKey) };
  },

  async verify({ token, jwk }) {
    const { payload, protectedHeader } = await jose.compactVerify(token, await jose.importJWK(jwk, 'ES512'), SIGNING);
    return { header: protectedHeader, payload: encode(payload) };
  },

  async sign({ payload, header, jwk }) {
    const signer = new jose.CompactSign(decode(payload)).setProtectedHeader(header);
    return { token: await signer.sign(await jose.importJWK(jwk, 'ES512')) };
  },

  async key_document_open({ content, jwk }) {
    const key = await jose.importJWK(jwk, 'ECDH-ES+A256KW');
    const allowed = { ...CONTENT, keyManagementAlgorithms: ['ECDH-ES+A256KW'] };
    const { plaintext, protectedHeader } = await jose.compactDecrypt(content, key, allowed);
    return { header: protectedHeader, plaintext: encode(plaintext) };
  },

  async key_document_make({ plaintext, header, apu, apv, jwk }) {
    const sealer = new jose.CompactEncrypt(decode(plaintext))
      .setProtectedHeader(header)
      .setKeyManagementParameters({ apu: decode(apu), apv: decode(apv) });
    return { content: await sealer.encrypt(await jose.importJWK(jwk, 'ECDH-ES+A256KW')) };
  },

  async document_open({ content, session_key, kind }) {
    const { salt, kid } = jose.decodeProtectedHeader(content);
    const key = documentKey({ session_key, salt, kind, run_id: kid });
    const allowed = { ...CONTENT, keyManagementAlgorithms: ['dir'] };
    const { plaintext, protectedHeader } = await jose.compactDecrypt(content, key, allowed);
    return { header: protectedHeader, plaintext: encode(plaintext) };
  },

  async document_make({ plaintext, header, session_key, kind }) {
    const key = documentKey({ session_key, salt: header.salt, kind, run_id: header.kid });
    return { content: await new jose.CompactEncrypt(decode(plaintext)).setProtectedHeader(header).encrypt(key) };
  },
};

async function answer({ do: name, ...question }) {
  try {
    return await asked[name](question);
  } catch (error) {
    if (error instanceof jose.errors.JOSEError) return { refused: error.code };
    throw error;
  }
}

let input = '';
for await (const part of process.stdin) input += part;
const answers = [];
for (const question of JSON.parse(input)) answers.push(await answer(question));
process.stdout.write(JSON.stringify(answers));
