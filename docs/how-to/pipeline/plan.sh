#!/bin/sh
# Plans the upgrade once, for the reviewers and for the deploy. Usage: plan.sh [REVISION] [options of datafixes plan]
#
#   plan.md    the plan, for a comment or a summary
#   plan.env   PLAN_DIGEST, to which the deploy is bound, and PLAN_REVISION, how far it goes
#
# The exit code is that of datafixes plan, but 0 instead of 4: where a plan ends early, the deploy goes as far, and the
# next one goes on.
set -eu
rm -f plan.md plan.env # a plan that fails leaves none of an earlier commit
trap 'rm -f plan.json' EXIT

code=0
datafixes plan "$@" --format markdown --output plan.md --json plan.json || code=$?
case $code in
0) ;;
4) echo "plan.sh: not all of it could be planned. After the deploy, plan again for the rest." >&2 ;;
*) exit "$code" ;;
esac

python3 - > plan.env <<'END'
import json, shlex, sys

with open("plan.json", encoding="utf-8") as file:
    plan = json.load(file)
plans = [one["plan"] for one in plan["plans"]] if plan["kind"] == "plans" else [plan]


def reached(one):
    if not one["unplannable"]:
        return one["target"]
    return one["steps"][-1]["revision"] if one["steps"] else one["unplannable"]["revision"]


target, *others = {reached(one) for one in plans}
if others:
    sys.exit("plan.sh: the plans end at several revisions: plan and deploy them one by one")
# Where no run of a fix is planned, none is allowed: this is the digest of none.
none = "" if any(one["unplannable"] and not one["steps"] for one in plans) else "0" * 16
print("PLAN_DIGEST=" + (plan["digest"] or none))
print("PLAN_REVISION=" + shlex.quote(target))
END
