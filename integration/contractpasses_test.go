package integration

import (
	"net/http"
	"slices"
)

func (r *rehearsal) passes() {
	r.t.Helper()
	var asset struct{ SHA256 string }
	r.send("putPassAsset", 200).into(r.t, &asset)
	r.keep["icon"] = asset.SHA256
	r.send("putPassType", 200)
	r.send("getPassType", 200)
	r.send("putPass", 201)
	r.send("putPass", 200, member("voided", false), member("pass", map[string]any{"storeCard": map[string]any{}}))
	var doc struct {
		Pass struct{ AuthenticationToken string }
	}
	r.send("getPass", 200).into(r.t, &doc)
	r.keep["passToken"] = doc.Pass.AuthenticationToken
	for _, id := range []string{"putPassType", "getPassType", "putPass", "getPass", "deletePass"} {
		r.send(id, 404, named("passTypeIdentifier", "pass.of.nobody"))
		if r.ops[id].method != http.MethodGet {
			r.send(id, 412, headed("If-Match", `"999"`))
		}
	}
	r.send("putPass", 422, member("pass", map[string]any{"coupon": map[string]any{}, "storeCard": map[string]any{}}))
	r.send("putPassType", 422, member("template", map[string]any{"barcodes": 1}))
	r.send("createPassBundle", 200)
	r.send("createPassBundle", 404, member("passes", []any{map[string]any{"passTypeIdentifier": "pass.dev.mintmark", "serialNumber": "none"}}))
	r.devices()
	r.send("deletePass", 400, func(s *sending) { s.header["If-Match"] = []string{`"1"`, `"2"`} })
	r.send("deletePass", 204)
}

func (r *rehearsal) devices() {
	r.t.Helper()
	r.send("registerPassDevice", 201)
	r.send("registerPassDevice", 200)
	r.send("registerPassDevice", 429, named("deviceIdentifier", "another"))
	r.send("registerPassDevice", 400, rawBody([]byte(`{}`)))
	r.send("listUpdatedPasses", 200)
	r.send("listUpdatedPasses", 204, named("deviceIdentifier", "another"))
	fetched := r.send("fetchPass", 200)
	r.send("fetchPass", 304, headed("If-Modified-Since", fetched.header.Get("Last-Modified")))
	r.send("unregisterPassDevice", 200)
	r.send("logPassDevice", 200)
	r.send("logPassDevice", 400, rawBody([]byte(`{"logs":1}`)))

	var asset struct{ SHA256 string }
	form := `{"requiredPersonalizationFields":["PKPassPersonalizationFieldName"],"description":"Join"}`
	r.send("putPassAsset", 200, rawBody([]byte(form))).into(r.t, &asset)
	r.send("putPass", 201, named("serialNumber", "member-1"), member("files", map[string]any{"icon.png": r.keep["icon"], "personalization.json": asset.SHA256}))
	r.send("personalizePass", 400, rawBody([]byte(`{}`)))
	r.send("personalizePass", 400, member("personalizationToken", `{"pass.json":"x"}`))
	r.send("personalizePass", 200)
	r.send("personalizePass", 409)
	r.send("personalizePass", 401, named("serialNumber", "none"))
	for _, id := range []string{"registerPassDevice", "unregisterPassDevice", "fetchPass"} {
		r.send(id, 401, func(s *sending) { s.authorization = "ApplePass wrong" })
	}
	for id, op := range r.ops {
		if slices.Contains(op.Tags, "pass-devices") {
			r.send(id, 404, named("version", "v2"))
			if op.RequestBody != nil {
				r.send(id, 413, rawBody(make([]byte, 70<<10)))
			}
		}
	}
	for _, id := range []string{"personalizePass", "logPassDevice"} {
		r.untilTooMany(id)
	}
}

// untilTooMany calls what needs no authentication until a tenant's devices have called too often.
func (r *rehearsal) untilTooMany(id string) {
	r.t.Helper()
	s := r.example(id)
	s.body = []byte("no JSON")
	for range 5000 {
		if a, req := r.transmit(s); a.status == http.StatusTooManyRequests {
			r.judge(s.op, req, a)
			return
		}
	}
	r.t.Errorf("%s is answered without end", id)
}
