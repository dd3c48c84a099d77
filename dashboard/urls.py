"""URLs of the dashboard."""

from django.urls import path

from dashboard import accounts, actions
from dashboard.pages import agents, connect, home, overview, task_detail, tasks

urlpatterns = [
    path("", home.home, name="home"),
    path("login/", accounts.Login.as_view(), name="login"),
    path("logout/", accounts.Logout.as_view(), name="logout"),
    path("setup/<str:token>", accounts.setup, name="setup"),
    path("p/<slug:slug>/", overview.overview, name="overview"),
    path("p/<slug:slug>/live", overview.live, name="overview-live"),
    path("p/<slug:slug>/chart.json", overview.chart, name="overview-chart"),
    path("p/<slug:slug>/tasks/", tasks.tasks, name="tasks"),
    path("p/<slug:slug>/tasks/live", tasks.live, name="tasks-live"),
    path("p/<slug:slug>/tasks/<int:pk>/", task_detail.task, name="task"),
    path("p/<slug:slug>/tasks/<int:pk>/live", task_detail.live, name="task-live"),
    path("p/<slug:slug>/tasks/<int:pk>/text/<slug:name>", task_detail.text, name="task-text"),
    path("p/<slug:slug>/tasks/<int:pk>/<slug:action>", actions.act_on_task, name="task-action"),
    path("p/<slug:slug>/agents/", agents.agents, name="agents"),
    path("p/<slug:slug>/agents/connect/", connect.connect, name="connect"),
    path("p/<slug:slug>/agents/mint", actions.mint_agent, name="agent-mint"),
    path("p/<slug:slug>/agents/<uuid:agent>/progress", connect.progress, name="agent-progress"),
    path("p/<slug:slug>/agents/<uuid:agent>/revoke", actions.revoke_agent, name="agent-revoke"),
]
