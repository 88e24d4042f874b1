// Has passkit-generator and @walletpass/pass-js check passes with their own code. In (JSON
// on standard input): modules (the folder node_modules), passes (name to Base64 .pkpass).
// Out: faults (texts), and how many checks were made.
'use strict';
const path = require('path');
const { execFileSync } = require('child_process');
const fs = require('fs');
const os = require('os');

const input = JSON.parse(fs.readFileSync(0, 'utf8'));
const module_ = (name) => require(path.join(input.modules, name));
const schemas = module_('passkit-generator/lib/cjs/schemas/index.js');
const { PKPass } = module_('passkit-generator');
const { Template } = module_('@walletpass/pass-js');

const faults = [];
let checks = 0;
const warn = console.warn;

// files inflates a pass with a third party's program.
function files(pkpass) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'peers-'));
  const name = path.join(dir, 'p.zip');
  fs.writeFileSync(name, pkpass);
  execFileSync('python3', ['-m', 'zipfile', '-e', name, path.join(dir, 'out')]);
  const out = {};
  for (const f of fs.readdirSync(path.join(dir, 'out'), { recursive: true })) {
    const full = path.join(dir, 'out', f);
    if (fs.statSync(full).isFile()) out[f] = fs.readFileSync(full);
  }
  fs.rmSync(dir, { recursive: true });
  return out;
}

async function main() {
  for (const [name, text] of Object.entries(input.passes)) {
    const pkpass = Buffer.from(text, 'base64');
    const all = files(pkpass);
    const pass = JSON.parse(all['pass.json']);
    try { // passkit-generator's schema of pass.json
      checks++;
      schemas.assertValidity(schemas.PassProps, pass);
    } catch (e) {
      faults.push(`${name}: passkit-generator's schema: ${e.message}`);
    }
    checks++; // passkit-generator's reading of all files: it warns of what it refuses
    console.warn = (m) => faults.push(`${name}: passkit-generator: ${m}`);
    const read = new PKPass(all);
    console.warn = warn;
    if (read.type === undefined || read.props.serialNumber !== pass.serialNumber) faults.push(`${name}: passkit-generator read type ${read.type}`);
    try { // pass-js: archive, fields, image sizes, required members
      checks++;
      const template = await Template.fromBuffer(pkpass);
      template.createPass({ serialNumber: pass.serialNumber, authenticationToken: pass.authenticationToken, webServiceURL: pass.webServiceURL }).validate();
      if (template.style === undefined || template.passTypeIdentifier !== pass.passTypeIdentifier) faults.push(`${name}: pass-js read style ${template.style}`);
    } catch (e) {
      faults.push(`${name}: pass-js: ${e.message}`);
    }
  }
  return { faults, checks };
}

main().then((out) => process.stdout.write(JSON.stringify(out)), (e) => {
  process.stderr.write(`${e.stack}\n`);
  process.exit(1);
});
