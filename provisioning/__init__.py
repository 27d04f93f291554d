"""Getting a machine ready: what to do as a plan, each step with check, apply and undo, and the doctor.

Every step is safe to repeat, so an interrupted run goes on where it stopped.
"""
