'use strict';
// Loads pages in Chromium and says what is wrong with them. In, as JSON: the folder of
// modules, the browser, where screenshots go, the origin and the pages. Out: faults, and how
// many pages were loaded in how many ways.

const fs = require('node:fs');
const path = require('node:path');

const input = JSON.parse(fs.readFileSync(0, 'utf8'));
const { chromium } = require(path.join(input.modules, 'playwright-core'));
const axe = fs.readFileSync(path.join(input.modules, 'axe-core', 'axe.min.js'), 'utf8');

const faults = [];
let loads = 0;

// open gives a tab that remembers what the browser complains of and what it asks for.
async function open(browser, options) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const seen = [];
  page.on('console', (m) => { if (m.type() !== 'log' && m.type() !== 'info') seen.push(`console ${m.type()}: ${m.text()}`); });
  page.on('pageerror', (e) => seen.push(`script error: ${e.message}`));
  page.on('requestfailed', (r) => seen.push(`request failed: ${r.url()}`));
  page.on('request', (r) => { if (new URL(r.url()).origin !== input.origin) seen.push(`asks elsewhere: ${r.url()}`); });
  page.on('response', (r) => { if (r.status() >= 400) seen.push(`answered ${r.status()}: ${r.url()}`); });
  await page.addInitScript(() => {
    window.refusedByPolicy = [];
    document.addEventListener('securitypolicyviolation', (e) => window.refusedByPolicy.push(`${e.effectiveDirective} ${e.blockedURI}`));
  });
  return { context, page, seen };
}

// visit loads a page one way, and has more looked at.
async function visit(browser, target, way, options, look) {
  const { context, page, seen } = await open(browser, options);
  const say = (what) => faults.push(`${target.path} (${way}): ${what}`);
  try {
    await page.goto(input.origin + target.path, { waitUntil: 'networkidle' });
    loads++;
    await look(page, say);
    for (const what of await page.evaluate(() => window.refusedByPolicy)) say(`refused by the policy: ${what}`);
  } catch (e) {
    say(e.message);
  }
  for (const what of seen) say(what);
  await context.close();
}

const shot = (page, target, way) => page.screenshot({ path: path.join(input.shots, `${target.name}-${way}.png`), fullPage: true, caret: 'initial' });

// accessible runs axe. It is evaluated from outside the page, whose policy forbids scripts.
async function accessible(page, say) {
  await page.evaluate(axe);
  const result = await page.evaluate(() => window.axe.run(document, { preload: false, resultTypes: ['violations'] }));
  for (const v of result.violations) say(`axe ${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).slice(0, 3).join(' | ')}`);
}

// walk goes through the page by the Tab key: everything that can be used is reached, and seen
// to be.
async function walk(page, say) {
  const count = await page.evaluate(() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex="0"]')]
    .filter((e) => e.checkVisibility()).length);
  const reached = new Set();
  for (let i = 0; i < 4 * count + 20; i++) {
    await page.keyboard.press('Tab');
    const at = await page.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return null;
      window.walked ??= [];
      if (!window.walked.includes(e)) window.walked.push(e);
      const style = getComputedStyle(e);
      const box = e.getBoundingClientRect();
      return { n: window.walked.indexOf(e), html: e.outerHTML.slice(0, 80), outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0, shown: box.width > 0 && box.right > 0 && box.bottom > 0 };
    });
    if (!at) {
      if (reached.size > 0) break; // out of the page, and round
      continue;
    }
    if (!at.outlined || !at.shown) say(`focus is not seen on ${at.html}`);
    if (reached.size === 0 && !at.html.includes('class="skip"')) say(`the first stop is ${at.html}`);
    reached.add(at.n);
  }
  if (reached.size < count) say(`${reached.size} of ${count} places are reached by keyboard`);
  await page.reload();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  const where = await page.evaluate(() => document.activeElement?.id);
  if (where !== 'main') say(`the skip link leads to ${where}`);
}

async function structure(page, say) {
  const is = await page.evaluate(() => ({
    scripts: document.scripts.length,
    handlers: [...document.querySelectorAll('*')].filter((e) => [...e.attributes].some((a) => a.name.startsWith('on') || a.name === 'style')).length,
    h1: document.querySelectorAll('h1').length,
    landmarks: ['header', 'nav', 'main', 'footer'].filter((n) => document.querySelectorAll(n).length !== 1),
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  }));
  if (is.scripts || is.handlers) say(`${is.scripts} scripts, ${is.handlers} elements with handlers or styles of their own`);
  if (is.h1 !== 1) say(`${is.h1} headings of the first level`);
  if (is.landmarks.length) say(`not one each of ${is.landmarks}`);
  if (is.wide) say('it is wider than the window');
}

async function look(browser, target) {
  for (const colorScheme of ['light', 'dark']) {
    await visit(browser, target, colorScheme, { colorScheme }, async (page, say) => {
      await shot(page, target, colorScheme);
      if (target.foreign) return;
      await structure(page, say);
      await accessible(page, say);
      if (colorScheme === 'light') await walk(page, say);
    });
  }
  if (target.foreign) return;
  await visit(browser, target, 'narrow', { viewport: { width: 360, height: 740 } }, async (page, say) => {
    await shot(page, target, 'narrow');
    await structure(page, say);
  });
  await visit(browser, target, 'print', { colorScheme: 'dark' }, async (page, say) => {
    await page.emulateMedia({ media: 'print' });
    await page.setViewportSize({ width: 718, height: 1000 }); // A4 within its margins
    await shot(page, target, 'print');
    const is = await page.evaluate(() => ({
      nav: document.querySelector('nav').checkVisibility(),
      paper: getComputedStyle(document.body).backgroundColor,
      cut: [...document.querySelectorAll('.scroll, pre')].filter((e) => e.scrollWidth > document.documentElement.clientWidth + 1).length,
    }));
    if (is.nav) say('the navigation is printed');
    if (is.paper !== 'rgb(255, 255, 255)') say(`the paper is ${is.paper}`);
    if (is.cut) say(`${is.cut} tables are wider than the paper`);
    await page.pdf({ path: path.join(input.shots, `${target.name}.pdf`), preferCSSPageSize: true });
  });
  await visit(browser, target, 'no script', { javaScriptEnabled: false }, async (page, say) => {
    if (!(await page.locator('h1').textContent())) say('it has no heading');
  });
}

(async () => {
  const browser = await chromium.launch({ executablePath: input.browser, args: ['--no-sandbox'] });
  for (const target of input.pages) await look(browser, target);
  await browser.close();
  process.stdout.write(JSON.stringify({ faults, loads }));
})();
