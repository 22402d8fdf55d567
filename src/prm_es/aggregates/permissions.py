"""Which role may send which command: one table, every cell tested.

A vendor admin may do what a channel manager may; an integration (import) what channel manager, partner admin or seller
may. Partner-side roles act for their own organisation only: base.check_organisation. A seller
changes only the opportunities of which it is the owner or the opener. Auditor and finance send nothing.
The system approves, rejects, reverts and revokes leads only as a reaction to what others decided: lead.decide.
"""

from collections.abc import Mapping
from typing import Final

from prm_es.messages import Role

VA, CM, SE, AD = Role.VENDOR_ADMIN, Role.CHANNEL_MANAGER, Role.SELLER, Role.ADJUDICATOR
PA, PR, SY = Role.PARTNER_ADMIN, Role.PARTNER_REP, Role.SYSTEM

_BY: Final[Mapping[str, tuple[Role, ...]]] = {
    # partner
    "partner.invite": (CM,),
    "partner.apply": (PA, CM),
    "partner.import": (Role.INTEGRATION,),
    "partner.decline_invitation": (PA,),
    "partner.start_review": (CM,),
    "partner.approve": (CM,),
    "partner.reject": (CM,),
    "partner.start_onboarding": (CM,),
    "partner.complete_task": (CM, PA),
    "partner.activate": (CM,),
    "partner.suspend": (CM,),
    "partner.reinstate": (CM,),
    "partner.terminate": (VA,),
    "partner.update_profile": (CM, PA),
    "partner.assign_channel_manager": (CM,),
    "partner.set_territories": (CM,),
    "partner.set_capacity": (CM,),
    "partner.change_tier": (CM,),
    "partner.grant_authorisation": (CM,),
    "partner.revoke_authorisation": (CM,),
    "partner.sign_agreement": (CM,),
    "partner.put_on_notice": (CM,),
    "partner.clear_notice": (CM,),
    "partner.set_goal": (CM,),
    "partner.withdraw_goal": (CM,),
    "partner.invite_user": (CM, PA),
    "partner.change_user_role": (CM, PA),
    "partner.deactivate_user": (CM, PA),
    # lead
    "lead.register": (PA, PR, CM),
    "lead.capture": (CM, SE),
    "lead.screen": (SY,),
    "lead.resolve_match": (SY, AD, CM),
    "lead.start_review": (CM,),
    "lead.request_information": (CM,),
    "lead.resubmit": (PA, PR),
    "lead.approve": (CM, SY),
    "lead.reject": (CM, SY),
    "lead.withdraw": (PA, PR),
    "lead.lapse": (SY,),
    "lead.request_extension": (PA, PR),
    "lead.extend": (CM,),
    "lead.correct": (CM,),
    "lead.transfer": (CM,),
    "lead.assign_owner": (CM, PA),
    "lead.warn_sla": (SY,),
    "lead.breach_sla": (SY,),
    "lead.remind_protection": (SY,),
    "lead.end_protection": (SY,),
    "lead.convert": (PA, PR, CM),
    "lead.expire": (SY,),
    "lead.revoke": (CM, SY),
    "lead.revert": (VA, SY),
    "lead.log_activity": (PA, PR, CM, SE),
    "lead.comment": (PA, PR, CM, SE),
    "lead.qualify": (CM, SE),
    "lead.offer": (CM, SY),
    "lead.open": (PA, PR),
    "lead.accept": (PA, PR),
    "lead.decline": (PA, PR),
    "lead.expire_offer": (SY,),
    "lead.recall": (CM, SY),
    "lead.record_contact": (PA, PR),
    "lead.start_work": (PA, PR),
    "lead.disqualify": (CM, PA, PR),
    "lead.remind_contact": (SY,),
    # opportunity
    "opportunity.open": (PA, PR, CM, SE),
    "opportunity.change_stage": (PA, PR, CM, SE),
    "opportunity.change_details": (PA, PR, CM, SE),
    "opportunity.set_next_action": (PA, PR, CM, SE),
    "opportunity.complete_next_action": (PA, PR, CM, SE),
    "opportunity.override_forecast": (CM,),
    "opportunity.log_activity": (PA, PR, CM, SE),
    "opportunity.comment": (PA, PR, CM, SE),
    "opportunity.request_help": (PA, PR, CM, SE),
    "opportunity.assign_owner": (CM, PA),
    "opportunity.add_partner": (CM,),
    "opportunity.remove_partner": (CM,),
    "opportunity.change_partner_of_record": (CM,),
    "opportunity.set_credit_split": (CM,),
    "opportunity.win": (PA, CM),
    "opportunity.lose": (PA, CM),
    "opportunity.reopen": (CM,),
    "opportunity.mark_stalled": (SY,),
}


def _closed(roles: tuple[Role, ...]) -> frozenset[Role]:
    implied = set(roles)
    if CM in roles:
        implied.add(VA)
    if implied & {CM, PA, SE}:
        implied.add(Role.INTEGRATION)
    return frozenset(implied)


ROLES: Final[Mapping[str, frozenset[Role]]] = {name: _closed(roles) for name, roles in _BY.items()}


# Questions are no commands: nothing follows from them but their answer.
ASK_AVAILABILITY: Final = frozenset({PA, PR, VA, CM, SE})


def may(role: Role, command_name: str) -> bool:
    """Tell whether the role may send the command at all."""
    return role in ROLES[command_name]
