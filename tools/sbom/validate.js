// Holds a bill of materials against the schema of CycloneDX 1.5, strictly: node validate.js FILE
import { readFileSync } from 'node:fs'
import { Spec, Validation } from '@cyclonedx/cyclonedx-library'

const text = readFileSync(process.argv[2], 'utf8')
const wrong = await new Validation.JsonStrictValidator(Spec.Version.v1dot5).validate(text)
if (wrong !== null) {
  console.error(JSON.stringify(wrong, null, 2))
  process.exit(1)
}
console.log(`${process.argv[2]}: ${JSON.parse(text).components.length} components, as CycloneDX 1.5 has them`)
