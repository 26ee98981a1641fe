// Makes every HubSpot call that the sandbox offers through HubSpot's own client, and checks the
// signatures of its webhooks with it. Arguments: base URL, token, client id, client secret, refresh token.
import assert from 'node:assert/strict'
import hubspot from '@hubspot/api-client'

const [base, accessToken, clientId, clientSecret, refreshToken] = process.argv.slice(2)
const client = new hubspot.Client({ accessToken, basePath: base, numberOfApiCallRetries: 0 })
const { contacts, companies, deals, properties, owners, pipelines, associations, objects } = client.crm

const control = async (path, method = 'GET', body) => {
  const answer = await fetch(`${base}/_sandbox/${path}`, { method, body: body && JSON.stringify(body) })
  assert.equal(answer.status, 200, path)
  return answer.json()
}
const refused = async (status, call, check = () => {}) => {
  const error = await call.then(() => assert.fail('was not refused'), (error) => error)
  assert.equal(error.code, status, String(error))
  check(error.body)
}

// Definitions.
const key = { name: 'crm_id', label: 'CRM id', type: 'string', fieldType: 'text', groupName: 'contactinformation', hasUniqueValue: true }
assert.equal((await properties.coreApi.create('contacts', key)).hasUniqueValue, true)
await refused(409, properties.coreApi.create('contacts', key), (body) => assert.equal(body.category, 'OBJECT_ALREADY_EXISTS'))
assert.equal((await properties.coreApi.getByName('contacts', 'crm_id')).name, 'crm_id')
assert.ok((await properties.coreApi.getAll('deals')).results.some((property) => property.name === 'dealstage'))
assert.equal((await properties.coreApi.update('contacts', 'crm_id', { label: 'Key' })).label, 'Key')
const second = await properties.batchApi.create('companies', { inputs: [{ ...key, groupName: 'companyinformation' }] })
assert.equal(second.results.length, 1)
assert.equal((await properties.batchApi.read('companies', { archived: false, inputs: [{ name: 'crm_id' }] })).results.length, 1)
assert.ok((await properties.groupsApi.getAll('contacts')).results.length > 0)
await properties.coreApi.create('contacts', { ...key, name: 'to_delete', hasUniqueValue: false })
await properties.coreApi.archive('contacts', 'to_delete')
await properties.coreApi.create('contacts', { ...key, name: 'to_delete', hasUniqueValue: false })
await properties.batchApi.archive('contacts', { inputs: [{ name: 'to_delete' }] })
await refused(404, properties.coreApi.getByName('contacts', 'to_delete'))

// Single records.
const ada = await contacts.basicApi.create({ properties: { email: 'Ada@example.com', firstname: 'Ada' }, associations: [] })
assert.equal(ada.properties.email, 'ada@example.com')
await refused(409, contacts.basicApi.create({ properties: { email: 'ada@example.com' }, associations: [] }), (body) =>
  assert.equal(body.message, `Contact already exists. Existing ID: ${ada.id}`))
assert.equal((await contacts.basicApi.getById('ada@example.com', ['firstname'], undefined, undefined, false, 'email')).properties.firstname, 'Ada')
assert.equal((await contacts.basicApi.getById(ada.id, ['email'], ['firstname'])).propertiesWithHistory.firstname[0].value, 'Ada')
await contacts.basicApi.update(ada.id, { properties: { phone: '+49 30 1' } })
await refused(404, contacts.basicApi.getById('1'))
await refused(400, contacts.basicApi.update(ada.id, { properties: { lastname: ' x' } }))

// Batches.
const input = (email, trace, more = {}) => ({ id: email, idProperty: 'email', objectWriteTraceId: trace, properties: { email, ...more } })
const upserted = await contacts.batchApi.upsert({ inputs: [input('ada@example.com', 'a'), input('bob@example.com', 'b', { crm_id: '2' })] })
assert.deepEqual(new Map(upserted.results.map((result) => [result.properties.email, result._new])), new Map([['ada@example.com', false], ['bob@example.com', true]]))
const mixed = await contacts.batchApi.upsert({ inputs: [input('cy@example.com', 'c'), input('bad@nowhere', 'd')] })
assert.equal(mixed.results.length, 1)
assert.deepEqual(mixed.errors[0].context.objectWriteTraceId, ['d'])
const created = await contacts.batchApi.create({ inputs: [{ properties: { email: 'dan@example.com' }, associations: [], objectWriteTraceId: 'e' }] })
const [dan] = created.results
const updated = await contacts.batchApi.update({ inputs: [{ id: dan.id, properties: { city: 'Berlin' } }, { id: '1', properties: { city: 'Bonn' } }] })
assert.equal(updated.results.length, 1)
assert.deepEqual(updated.errors[0].context.ids, ['1'])
const read = await contacts.batchApi.read({ properties: ['city'], propertiesWithHistory: [], inputs: [{ id: dan.id }, { id: '1' }] })
assert.equal(read.results[0].properties.city, 'Berlin')
assert.equal(read.numErrors, 1)
await refused(400, contacts.batchApi.upsert({ inputs: [input('x@example.com', 'x'), input('X@example.com', 'y')] }))

// Search, lists, merge, deletion.
const found = await contacts.searchApi.doSearch({
  filterGroups: [{ filters: [{ propertyName: 'email', operator: 'EQ', value: 'dan@example.com' }] }],
  sorts: ['hs_object_id'], properties: ['email'], limit: 10, after: '0',
})
assert.equal(found.total, 1)
const page = await contacts.basicApi.getPage(2, undefined, ['email'])
assert.equal(page.results.length, 2)
assert.equal((await contacts.basicApi.getPage(100, page.paging.next.after)).results.length, 2)
const merged = await contacts.basicApi.merge({ primaryObjectId: ada.id, objectIdToMerge: dan.id })
assert.equal((await contacts.basicApi.getById(dan.id)).id, merged.id)
await contacts.basicApi.archive(merged.id)
assert.equal((await contacts.basicApi.getById(merged.id, undefined, undefined, undefined, true)).archived, true)
await contacts.batchApi.archive({ inputs: [{ id: merged.id }, { id: '1' }] })
const [bob] = (await contacts.batchApi.read({ idProperty: 'crm_id', properties: ['email'], propertiesWithHistory: [], inputs: [{ id: '2' }] })).results
await contacts.basicApi.purge({ objectId: 'cy@example.com', idProperty: 'email' })

// Other types and associations.
const acme = await companies.basicApi.create({ properties: { name: 'Acme', domain: 'acme.example.com' }, associations: [] })
const deal = await deals.basicApi.create({
  properties: { dealname: 'Big', dealstage: 'qualifiedtobuy', pipeline: 'default', amount: '10' },
  associations: [{ to: { id: acme.id }, types: [{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 341 }] }],
})
assert.deepEqual((await deals.basicApi.getById(deal.id, undefined, undefined, ['companies'])).associations.companies.results.map((one) => one.id), [acme.id])
const note = await objects.notes.basicApi.create({ properties: { hs_timestamp: '2026-01-02T03:04:05Z', hs_note_body: 'hi' }, associations: [] })
const { basicApi, batchApi } = associations.v4
await basicApi.createDefault('contacts', bob.id, 'companies', acme.id)
assert.equal(String((await basicApi.getPage('contacts', bob.id, 'companies')).results[0].toObjectId), acme.id)
await basicApi.create('notes', note.id, 'contacts', bob.id, [{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 202 }])
await basicApi.archive('notes', note.id, 'contacts', bob.id)
const pair = { _from: { id: deal.id }, to: { id: bob.id } }
assert.equal((await batchApi.create('deals', 'contacts', { inputs: [{ ...pair, types: [{ associationCategory: 'HUBSPOT_DEFINED', associationTypeId: 3 }] }] })).results.length, 1)
await batchApi.createDefault('deals', 'contacts', { inputs: [pair] })
const targets = await batchApi.getPage('deals', 'contacts', { inputs: [{ id: deal.id }, { id: '1' }] })
assert.equal(targets.results.length, 1)
assert.equal(targets.errors[0].subCategory, 'crm.associations.NO_ASSOCIATIONS_FOUND')
await batchApi.archive('deals', 'contacts', { inputs: [{ _from: pair._from, to: [pair.to] }] })

// Account.
assert.equal((await owners.ownersApi.getPage()).results.length, 1)
assert.equal((await owners.ownersApi.getById(77001)).email, 'owner@example.com')
assert.equal((await pipelines.pipelinesApi.getAll('deals')).results[0].stages.length, 7)
assert.equal((await pipelines.pipelinesApi.getById('deals', 'default')).id, 'default')
assert.equal((await pipelines.pipelineStagesApi.getAll('deals', 'default')).results.length, 7)
assert.equal((await (await client.apiRequest({ path: '/account-info/v3/details' })).json()).portalId, 12345678)
const usage = await (await client.apiRequest({ path: '/account-info/v3/api-usage/daily/private-apps' })).json()
assert.ok(usage.results[0].currentUsage > 0)
const info = await client.apiRequest({ method: 'POST', path: '/oauth/v2/private-apps/get/access-token-info', body: { tokenKey: accessToken } })
assert.equal((await info.json()).appId, 50780459)

// Tokens.
const tokens = await client.oauth.tokensApi.create('refresh_token', undefined, undefined, clientId, clientSecret, refreshToken)
const byToken = new hubspot.Client({ accessToken: tokens.accessToken, basePath: base })
assert.equal((await byToken.crm.companies.basicApi.getById(acme.id)).id, acme.id)
assert.equal((await client.oauth.accessTokensApi.get(tokens.accessToken)).hubId, 12345678)
await control('hubspot/expire-tokens', 'POST')
await refused(401, byToken.crm.companies.basicApi.getById(acme.id), (body) => assert.equal(body.category, 'EXPIRED_AUTHENTICATION'))
await refused(400, client.oauth.tokensApi.create('refresh_token', undefined, undefined, clientId, clientSecret, 'nope'))
await refused(401, new hubspot.Client({ accessToken: 'wrong', basePath: base }).crm.companies.basicApi.getById(acme.id))

// Webhooks.
await control('config', 'POST', { hubspot: { sign_v1: true } })
const deliveries = (await control('webhooks/take', 'POST')).filter((delivery) => delivery.service === 'hubspot')
assert.ok(deliveries.length > 0)
for (const { headers, uri: url, body: requestBody } of deliveries) {
  const timestamp = Number(headers['x-hubspot-request-timestamp'])
  const signed = { clientSecret, requestBody, url }
  assert.ok(hubspot.Signature.isValid({ ...signed, signatureVersion: 'v3', timestamp, signature: headers['x-hubspot-signature-v3'] }))
  assert.ok(hubspot.Signature.isValid({ ...signed, signatureVersion: 'v1', signature: headers['x-hubspot-signature'] }))
  assert.ok(!hubspot.Signature.isValid({ ...signed, requestBody: requestBody + ' ', signatureVersion: 'v1', signature: headers['x-hubspot-signature'] }))
}
const kinds = new Set(deliveries.flatMap(({ body }) => JSON.parse(body)).map((event) => event.subscriptionType))
for (const kind of ['contact.creation', 'contact.propertyChange', 'contact.merge', 'contact.deletion', 'contact.privacyDeletion', 'contact.associationChange', 'object.creation']) {
  assert.ok(kinds.has(kind), kind)
}
console.log('hubspot ok')
