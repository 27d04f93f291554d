"""Tests of AgentCom."""
