#!/bin/sh
# The issuer's and the merchant's calls, with curl: a sealed card, a merchant token, an Apple
# proximity token, a pass. Needs curl, openssl and a development server (make run):
#
#	examples/curl/journey.sh [DIR]   # DIR is the development server's; default .mintmark
set -eu

data=${1:-.mintmark}

# of NAME prints the first member of this name in dev.json, which is written one member a line.
of() {
	sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" "$data/dev.json" | head -n 1
}

# base64url encodes standard input (RFC 7515, 2).
base64url() {
	openssl base64 -A | tr '+/' '-_' | tr -d '='
}

# token NAME CLAIMS prints a bearer token of the client NAME: a JWT, RS256, of five minutes. In
# production the key is the client's own, and the server has its public half.
token() {
	now=$(date +%s)
	header=$(printf '{"alg":"RS256","typ":"JWT","kid":"dev-%s-1"}' "$1" | base64url)
	claims=$(printf '{"iss":"dev-%s","aud":"mintmark-dev","jti":"%s","iat":%d,"exp":%d,%s}' \
		"$1" "$(openssl rand -hex 16)" "$now" "$((now + 300))" "$2" | base64url)
	signature=$(printf '%s.%s' "$header" "$claims" | openssl dgst -sha256 -sign "$data/clients/$1.pem" -binary | base64url)
	printf '%s.%s.%s' "$header" "$claims" "$signature"
}

# call METHOD PATH TOKEN [BODY] prints the answer; one that is an error ends the script.
call() {
	curl -sS --fail-with-body -X "$1" "$base$2" -H "Authorization: $3" ${4:+-H 'Content-Type: application/json' -d "$4"}
}

# member NAME picks a text out of an answer that is one JSON object.
member() {
	sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"
}

base=$(of baseUrl)
issuer="Bearer $(token issuer '"sub":"dev-user"')"

echo '1. The card, sealed for Apple Wallet'
# What PKAddPaymentPassViewController hands over; here the simulated Apple's.
certificates=$(cat "$(of leafCert)" "$(of subCert)" | openssl base64 -A)
card=$(call POST /issuer/push-provisioning/signed-cards "$issuer" "{
	\"externalCardId\": \"$(of externalCardId)\", \"walletType\": \"APPLE_PAY\", \"certificate\": \"$certificates\",
	\"nonce\": \"$(openssl rand -hex 4)\", \"nonceSignature\": \"40$(openssl rand -hex 80)\"}")
echo "   ephemeralPublicKey $(echo "$card" | member ephemeralPublicKey)"

echo '2. A merchant JWT, signed in the token'
merchant=$(call POST /v1/merchant-tokens "$issuer" '{
	"sub": "merchant-user-17", "usr": "cashier@shop.example", "aud": "mintmark-dev",
	"mbn": "Corner Shop", "mcc": "5411", "x-tid": "00000001"}' | member token)
call POST /tokens/checkjwt "Bearer $merchant" >/dev/null
echo "   holds: $(printf %.40s "$merchant")..."

echo '3. The Apple proximity token that it obtains'
echo "   jwtId $(call POST /apple/proximity-token "Bearer $merchant" | member jwtId)"

echo '4. A pass: changed by its issuer, fetched by a phone'
tenant=$(of tenant) type=$(of passTypeIdentifier) serial=$(of serialNumber)
call PUT "/api/$tenant/passes/$type/$serial" "$issuer" '{
	"pass": {"storeCard": {"primaryFields": [{"key": "balance", "label": "BALANCE", "value": 42, "currencyCode": "EUR"}]}}}' >/dev/null
pass=$(mktemp)
trap 'rm -f "$pass"' EXIT
call GET "/api/$tenant/passes/apple/v1/passes/$type/$serial" "ApplePass $(of authenticationToken)" >"$pass"
# A .pkpass is a ZIP archive.
[ "$(head -c 2 "$pass")" = PK ]
echo "   $(wc -c <"$pass" | tr -d ' ') bytes"
