// What the two npm clients do against a server. Arguments: FHIR base, bearer token, id of a patient, client to run.
// Prints one JSON object; the Python test says what it must hold.
const [base, token, patient, which] = process.argv.slice(2);

async function fhirKit() {
  const { Client, CapabilityTool } = await import("fhir-kit-client");
  const client = new Client({ baseUrl: base, bearerToken: token });
  const smart = await client.smartAuthMetadata();
  const tool = new CapabilityTool(await client.capabilityStatement());
  const answer = await client.transaction({
    body: {
      resourceType: "Bundle",
      type: "transaction",
      entry: [
        {
          fullUrl: "urn:uuid:11111111-1111-4111-8111-111111111111",
          resource: { resourceType: "Patient", name: [{ family: "検査" }] },
          request: { method: "POST", url: "Patient" },
        },
        {
          resource: {
            resourceType: "Observation",
            status: "final",
            code: { text: "HbA1c" },
            subject: { reference: "urn:uuid:11111111-1111-4111-8111-111111111111" },
          },
          request: { method: "POST", url: "Observation" },
        },
      ],
    },
  });
  const made = answer.entry.map((entry) => entry.response.location.split("/_history")[0].split("/").pop());
  const patched = await client.patch({
    resourceType: "Patient",
    id: made[0],
    jsonPatch: [{ op: "add", path: "/gender", value: "female" }],
  });
  const former = await client.vread({ resourceType: "Patient", id: made[0], version: "1" });
  const history = await client.resourceHistory({ resourceType: "Patient", id: made[0] });
  const searchParams = { patient, _count: "3", _sort: "date" };
  const page = await client.resourceSearch({ resourceType: "Observation", searchParams, options: { postSearch: true } });
  const next = await client.nextPage({ bundle: page });
  const back = await client.prevPage({ bundle: next });
  const everything = await client.operation({ name: "everything", resourceType: "Patient", id: made[0], method: "GET" });
  await client.delete({ resourceType: "Observation", id: made[1] });
  const gone = await client.read({ resourceType: "Observation", id: made[1] }).catch((error) => error.response);
  return {
    tokenUrl: smart.tokenUrl.href,
    can: [tool.serverCan("transaction"), tool.resourceCan("Patient", "patch"), tool.resourceSearch("Patient", "identifier")],
    statuses: answer.entry.map((entry) => entry.response.status),
    gender: [former.gender ?? null, patched.gender],
    history: history.entry.map((entry) => entry.resource.meta.versionId),
    days: [...page.entry, ...next.entry].map((entry) => entry.resource.effectiveDateTime),
    back: back.entry.length,
    everything: everything.entry.map((entry) => entry.resource.resourceType).sort(),
    gone: [gone.status, gone.data.resourceType],
  };
}

async function medplum() {
  const { MedplumClient } = await import("@medplum/core");
  const url = new URL(base);
  const client = new MedplumClient({ baseUrl: url.origin, fhirUrlPath: "fhir", accessToken: token, fetch });
  const options = { pollStatusOnAccepted: true, pollStatusPeriod: 50 };
  const manifest = await client.bulkExport("Patient", "Patient,Observation", undefined, options);
  const counted = {};
  for (const file of manifest.output) {
    const blob = await client.download(file.url, { headers: { Accept: "application/fhir+ndjson" } });
    const lines = (await blob.text()).trim().split("\n").map((line) => JSON.parse(line));
    counted[file.type] = (counted[file.type] ?? 0) + lines.filter((line) => line.resourceType === file.type).length;
  }
  return { requiresAccessToken: manifest.requiresAccessToken, counted };
}

console.log(JSON.stringify(await (which === "medplum" ? medplum() : fhirKit())));
